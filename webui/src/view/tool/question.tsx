import type { VNode } from "preact";
import { list, record, text, type Loose } from "../../conversation/reading";
import { visible } from "../../text/visible";

/** The chosen answers by question. */
export type Choices = Readonly<Record<string, readonly string[]>>;

/** What was chosen, out of the text for each question that answers are given as. */
export function choicesOf({ questions, answers }: Loose): Choices {
  const given = record(answers);
  const chosen = list(questions).map((value) => {
    const question = record(value);
    const labels = list(question["options"]).map((option) => text(record(option)["label"]));
    const name = text(question["question"]);
    const parts = text(given[name]).split(", ");
    const known = parts.filter((part) => labels.includes(part));
    const own = parts.filter((part) => !labels.includes(part)).join(", ");
    return [name, own === "" ? known : [...known, own]] as const;
  });
  return Object.fromEntries(chosen);
}

interface QuestionsProps {
  readonly questions: readonly unknown[];
  /** Left out, the questions are only shown. */
  readonly choices?: Choices;
  readonly onChoose?: (question: string, labels: readonly string[]) => void;
}

/** Questions of the agent, with the answers that it offers. */
export function Questions({ questions, choices = {}, onChoose }: QuestionsProps): VNode {
  return (
    <div class="questions">
      {questions.map(record).map((question, at) => (
        <Question
          key={at}
          question={question}
          chosen={choices[text(question["question"])] ?? []}
          onChoose={onChoose && ((labels) => onChoose(text(question["question"]), labels))}
        />
      ))}
    </div>
  );
}

interface QuestionProps {
  readonly question: Loose;
  readonly chosen: readonly string[];
  readonly onChoose: ((labels: readonly string[]) => void) | undefined;
}

function Question({ question, chosen, onChoose }: QuestionProps): VNode {
  const options = list(question["options"]).map(record);
  const isMultiple = question["multiSelect"] === true;
  const labels = options.map((option) => text(option["label"]));
  const own = chosen.find((label) => !labels.includes(label)) ?? "";
  const name = text(question["question"]);
  const isAnswered = onChoose === undefined && chosen.length > 0;
  const toggle = (label: string): void => {
    if (!isMultiple) onChoose?.([label]);
    else onChoose?.(chosen.includes(label) ? chosen.filter((other) => other !== label) : [...chosen, label]);
  };
  const write = (answer: string): void => {
    const others = isMultiple ? chosen.filter((label) => labels.includes(label)) : [];
    onChoose?.(answer === "" ? others : [...others, answer]);
  };
  return (
    <fieldset class={isAnswered ? "question answered" : "question"} disabled={onChoose === undefined}>
      <legend dir="auto">{visible(name)}</legend>
      {options.map((option, at) => (
        <label key={at}>
          <input
            type={isMultiple ? "checkbox" : "radio"}
            name={name}
            checked={chosen.includes(text(option["label"]))}
            onChange={() => toggle(text(option["label"]))}
          />
          <span dir="auto">
            {visible(text(option["label"]))}
            <small class="hint">{visible(text(option["description"]))}</small>
          </span>
        </label>
      ))}
      {isAnswered && own !== "" && <p class="question-own">Answer: {visible(own)}</p>}
      {onChoose !== undefined && (
        <input
          class="input"
          type="text"
          aria-label={`Another answer: ${visible(name)}`}
          placeholder="Another answer"
          value={own}
          onInput={(event) => write(event.currentTarget.value)}
        />
      )}
    </fieldset>
  );
}

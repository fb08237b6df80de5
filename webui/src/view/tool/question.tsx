import type { VNode } from "preact";
import { list, record, text, type Loose } from "../../conversation/reading";

/** What somebody has chosen, by question. */
export type Choices = Readonly<Record<string, readonly string[]>>;

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
  const toggle = (label: string): void => {
    if (!isMultiple) onChoose?.([label]);
    else onChoose?.(chosen.includes(label) ? chosen.filter((other) => other !== label) : [...chosen, label]);
  };
  const write = (answer: string): void => {
    const others = isMultiple ? chosen.filter((label) => labels.includes(label)) : [];
    onChoose?.(answer === "" ? others : [...others, answer]);
  };
  return (
    <fieldset class="question" disabled={onChoose === undefined}>
      <legend>{name}</legend>
      {options.map((option, at) => (
        <label key={at}>
          <input
            type={isMultiple ? "checkbox" : "radio"}
            name={name}
            checked={chosen.includes(text(option["label"]))}
            onChange={() => toggle(text(option["label"]))}
          />
          <span>
            {text(option["label"])}
            <small class="hint">{text(option["description"])}</small>
          </span>
        </label>
      ))}
      {onChoose !== undefined && (
        <input
          class="input"
          type="text"
          aria-label={`Another answer: ${name}`}
          placeholder="Another answer"
          value={own}
          onInput={(event) => write(event.currentTarget.value)}
        />
      )}
    </fieldset>
  );
}

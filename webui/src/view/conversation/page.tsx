import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Conversation } from "../../conversation/conversation";
import type { PageProps } from "../../page";
import { nameOf, projectOf } from "../../store/projects";
import { useStore } from "../../store/store";
import { visible } from "../../text/visible";
import { ApprovalDock } from "../approval/dock";
import { AsOf, Pending } from "../control/pending";
import { ProjectFolder } from "../tool/card";
import { Composer } from "./composer";
import { Header } from "./header";
import { Queue } from "./queue";
import { Tasks } from "./tasks";
import { Transcript } from "./transcript";
import "./conversation.css";

export default function ConversationPage({ params }: PageProps): VNode {
  const store = useStore();
  const id = params["id"] ?? "";
  const [conversation, setConversation] = useState<Conversation>();
  const project = store.projects.get(id);
  const name = project === undefined ? null : nameOf(project);
  useEffect(() => {
    setConversation(store.open(id));
    return () => store.close();
  }, [id]);
  useEffect(() => {
    if (name !== null) document.title = `${name} · Pocket Agent`;
  }, [name]);

  if (project === undefined && store.projects.loaded.value) return <Gone id={id} />;
  if (project === undefined) return <Unknown conversation={conversation} />;
  return (
    <main class="conversation">
      {conversation !== undefined && (
        <>
          <Header project={project} conversation={conversation} />
          <AsOf at={conversation.asOf.value} />
          <ProjectFolder.Provider value={project.path.replace(/\/+$/, "")}>
            <Body conversation={conversation} isRunning={project.state === "EXECUTING"} />
          </ProjectFolder.Provider>
          <ApprovalDock />
          <div class="conversation-foot">
            <Tasks project={project} />
            <Queue conversation={conversation} />
            {store.mayAct.value ? <Composer project={project} /> : <p class="watching">This device may only watch.</p>}
          </div>
        </>
      )}
    </main>
  );
}

interface BodyProps {
  readonly conversation: Conversation;
  readonly isRunning: boolean;
}

function Body({ conversation, isRunning }: BodyProps): VNode {
  const { mayAct } = useStore();
  const failure = conversation.failure.value;
  if (failure !== null) return <div class="empty problem">{failure.message}</div>;
  if (!conversation.loaded.value) {
    return (
      <div class="transcript loading">
        <Pending what="The conversation" />
      </div>
    );
  }
  if (conversation.timeline.isEmpty.value && !isRunning) {
    return (
      <div class="transcript">
        <div class="empty">
          <h2>No messages yet</h2>
          <p>Write what the agent should do. All devices with access to this project see its work and can answer it.</p>
          {mayAct.value && <Examples conversationId={conversation.id} />}
        </div>
      </div>
    );
  }
  return <Transcript conversation={conversation} isRunning={isRunning} />;
}

const EXAMPLES = [
  "What does this project do, and how is it built?",
  "Run the tests, and explain what fails",
  "Find a bug, and explain how you would fix it",
] as const;

/** What the scripted model understands; `pocket_agent.demo.scenario` has all of them. */
const DEMO_EXAMPLES = [
  "demo:bash=date > demo.txt",
  "demo:edit=note.md",
  "demo:ask",
  "demo:markdown",
  "demo:slow=20s",
] as const;

/** Prompts to begin with; a tap puts one into the field. */
function Examples({ conversationId }: { readonly conversationId: string }): VNode | null {
  const { link, drafts } = useStore();
  const [isDemo, setDemo] = useState<boolean>();
  useEffect(() => {
    link.request("health_check", {}).then(
      ({ claude }) => setDemo(claude.demo === true),
      () => setDemo(false),
    );
  }, []);
  if (isDemo === undefined) return null;
  return (
    <>
      {isDemo && <p>The demo model is in use: a script, not an AI. It understands these words.</p>}
      <ul class="examples" aria-label="Examples">
        {(isDemo ? DEMO_EXAMPLES : EXAMPLES).map((example) => (
          <li key={example}>
            <button
              class="button small"
              type="button"
              onClick={() => {
                drafts.put(conversationId, example);
                document.querySelector<HTMLElement>('[data-focus="main"]')?.focus();
              }}
            >
              {example}
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}

/** Before the project has arrived. */
function Unknown({ conversation }: { readonly conversation: Conversation | undefined }): VNode {
  return (
    <main class="conversation" aria-busy="true">
      <div class="transcript loading">
        <Pending what="The conversation">
          <a class="button" href="/" data-route>
            To the projects
          </a>
        </Pending>
      </div>
      <div class="conversation-foot">{conversation !== undefined && <Queue conversation={conversation} />}</div>
    </main>
  );
}

function Gone({ id }: { readonly id: string }): VNode {
  const project = useStore().projects.get(projectOf(id));
  return (
    <main class="page">
      <div class="empty">
        <h2>{project === undefined ? "Project" : "Conversation"} not found</h2>
        <p>It was deleted, or the address is wrong.</p>
        <a class="button" href={project === undefined ? "/" : `/p/${project.id}`} data-route>
          {project === undefined ? "To the projects" : `To ${visible(project.name)}`}
        </a>
      </div>
    </main>
  );
}

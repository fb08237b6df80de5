import type { VNode } from "preact";
import type { PageProps } from "../../page";
import { useStore } from "../../store/store";

export default function ConversationPage({ params }: PageProps): VNode {
  const { projects } = useStore();
  return (
    <main class="page">
      <h1>{projects.list.value.find(({ id }) => id === params["id"])?.name}</h1>
    </main>
  );
}

import type { VNode } from "preact";
import { CircleCheck, CircleDashed, CircleDot } from "lucide";
import { record, text } from "../../conversation/reading";
import { Icon } from "../icon";

const STATES = {
  completed: { icon: CircleCheck, said: "Done" },
  in_progress: { icon: CircleDot, said: "In progress" },
  pending: { icon: CircleDashed, said: "To do" },
} as const;

/** A todo list of the agent. */
export function Todo({ todos }: { readonly todos: readonly unknown[] }): VNode {
  return (
    <ul class="todo">
      {todos.map(record).map((todo, at) => {
        const name = text(todo["status"]);
        const status = name === "completed" || name === "in_progress" ? name : "pending";
        const { icon, said } = STATES[status];
        return (
          <li key={at} class={status}>
            <Icon node={icon} size={18} />
            <span class="visually-hidden">{said}: </span>
            {status === "in_progress" ? text(todo["activeForm"]) || text(todo["content"]) : text(todo["content"])}
          </li>
        );
      })}
    </ul>
  );
}

import type { VNode } from "preact";
import { X } from "lucide";
import { useStore } from "../../store/store";
import { Icon } from "../icon";

/** What is said in passing. */
export function Toasts(): VNode {
  const { toasts } = useStore();
  return (
    <div class="toasts" role="status">
      {toasts.list.value.map(({ id, tone, text, action }) => (
        <div key={id} class={`toast ${tone}`}>
          <span>{text}</span>
          {action !== undefined && (
            <button
              class="button quiet small"
              type="button"
              onClick={() => {
                action.run();
                toasts.dismiss(id);
              }}
            >
              {action.label}
            </button>
          )}
          <button
            class="button quiet small icon-only"
            type="button"
            aria-label="Dismiss"
            onClick={() => toasts.dismiss(id)}
          >
            <Icon node={X} size={17} />
          </button>
        </div>
      ))}
    </div>
  );
}

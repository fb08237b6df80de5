import type { VNode } from "preact";
import { PAGES } from "../../page";
import { path } from "../../router";
import { useStore } from "../../store/store";
import { Icon } from "../icon";

/** The links to the pages in the navigation. */
export function Navigation({ label }: { readonly label: string }): VNode {
  const { seesAll } = useStore();
  const entries = PAGES.flatMap(({ title, entry, isOfServer = false }) =>
    entry === undefined || (isOfServer && !seesAll.value) ? [] : [{ title, ...entry }],
  );
  return (
    <nav aria-label={label} class={label === "Pages" ? "tabs" : ""}>
      {entries.map(({ title, path: to, icon }) => (
        <a key={to} href={to} data-route aria-current={path.value === to ? "page" : undefined}>
          <Icon node={icon} />
          {title}
        </a>
      ))}
    </nav>
  );
}

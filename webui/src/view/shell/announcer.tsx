import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { useStore } from "../../store/store";
import { listenForNews, type News } from "./news";

/** Announces changes to screen readers, and as system notifications while the page is hidden. */
export function Announcer(): VNode {
  const store = useStore();
  const [news, setNews] = useState<News | null>(null);
  useEffect(() => listenForNews(store, setNews), [store]);
  return (
    <div class="visually-hidden" aria-live={news?.isUrgent ? "assertive" : "polite"}>
      {news?.title} {news?.body}
    </div>
  );
}

import type { ComponentType } from "preact";
import { FolderGit2, Gauge, MonitorSmartphone, Settings, type IconNode } from "lucide";
import ConversationPage from "./view/conversation/page";
import ProjectsPage from "./view/projects/page";

/** A page of the client. */
export interface Page {
  /** What it is called in the navigation and in the browser's title. */
  readonly title: string;
  /** The paths that show it; the groups are handed to the component as `params`. */
  readonly path: RegExp;
  /** The target of the link, for a page in the navigation. */
  readonly entry?: { readonly path: string; readonly icon: IconNode };
  /** It fills the screen of a phone, without the navigation, and places what agents ask for itself. */
  readonly isFull?: boolean;
  /** It is about the whole server, which a device that is limited to some projects does not see. */
  readonly isOfServer?: boolean;
  /** What shows it, for one that is opened first; the code of the others is loaded when they are first shown. */
  readonly component?: ComponentType<PageProps>;
  readonly load?: () => Promise<{ readonly default: ComponentType<PageProps> }>;
}

export interface PageProps {
  readonly params: Readonly<Record<string, string>>;
}

/** Every page, in the order of the navigation. To add one: a line here, and its path in server/pages.py. */
export const PAGES: readonly Page[] = [
  {
    title: "Projects",
    path: /^\/$/,
    entry: { path: "/", icon: FolderGit2 },
    component: ProjectsPage,
  },
  { title: "Conversation", path: /^\/p\/(?<id>[^/]+)$/, isFull: true, component: ConversationPage },
  {
    title: "Dashboard",
    path: /^\/dashboard$/,
    entry: { path: "/dashboard", icon: Gauge },
    isOfServer: true,
    load: () => import("./view/dashboard/page"),
  },
  {
    title: "Devices",
    path: /^\/devices$/,
    entry: { path: "/devices", icon: MonitorSmartphone },
    load: () => import("./view/devices/page"),
  },
  {
    title: "Settings",
    path: /^\/settings$/,
    entry: { path: "/settings", icon: Settings },
    load: () => import("./view/settings/page"),
  },
];

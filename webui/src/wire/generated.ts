// Generated from the server's types by `make generate`; do not edit.

/**
 * Make a directory a project, and accept what its own settings have the CLI do.
 *
 * `hash` (of `path_inspect`) accepts only that state of the settings: in another one the error is
 * `VALIDATION_FAILED`, with its `hash` in the details. Without `hash` the current state is accepted.
 */
export interface ProjectCreate {
  readonly path: string;
  readonly hash?: string | null;
}

/** List all projects. */
export type ProjectList = Readonly<Record<string, never>>;

/**
 * Accept what the project's own settings have the CLI do, in the state with this `hash` (`path_inspect`).
 *
 * Before each prompt the server compares the settings with the accepted ones. While something is new or changed, the
 * prompts wait, with a `queue_hold` of the reason `trust`. When the directory is in another state than `hash`, the
 * error is `VALIDATION_FAILED`, with the `hash` of that state in its details.
 */
export interface ProjectTrust {
  readonly hash: string;
  readonly project_id?: string | null;
}

/** Delete a project and its log; the directory itself is not touched. */
export interface ProjectDelete {
  readonly project_id?: string | null;
}

/**
 * Begin another conversation in a project, with a log, a queue and an agent of its own.
 *
 * `worktree` gives it a working directory of its own on a branch of its own; without it, it works in the project's
 * directory. `session_id` continues a session of `session_list`, as a copy with `fork`. The reply is its
 * `project_state`; other clients that know of conversations get it as a push.
 */
export interface ConversationCreate {
  readonly title?: string | null;
  readonly worktree?: WorktreeRequest | null;
  readonly session_id?: string | null;
  readonly fork?: boolean;
  readonly project_id?: string | null;
}

/**
 * A git worktree to make for a conversation, in the folder of the setting `data.worktrees`.
 *
 * `branch`: an existing branch that is checked out nowhere else, or the name of a new one (by default a new one is
 * named after the title). `base`: the commit at which a new branch begins (default: that of the project's directory).
 */
export interface WorktreeRequest {
  readonly branch?: string | null;
  readonly base?: string | null;
}

/** List the conversations of a project; with `archived` also the archived ones. */
export interface ConversationList {
  readonly archived?: boolean;
  readonly project_id?: string | null;
}

/** Give a conversation a title; null shows its first prompt instead. */
export interface ConversationRename {
  readonly title: string | null;
  readonly project_id?: string | null;
}

/**
 * Leave a conversation out of lists, and end its idle process; with `archived: false`, or a prompt, show it again.
 *
 * Refused with `PROCESS_ACTIVE` while it works or prompts wait, and for the main conversation.
 */
export interface ConversationArchive {
  readonly archived?: boolean;
  readonly project_id?: string | null;
}

/**
 * Delete a conversation, its log and its worktree; the main one goes only with the project.
 *
 * A worktree with changes that are not committed, or with commits that are on no other branch and no remote, is
 * refused with `VALIDATION_FAILED` (`changes` and `commits` in the details), unless `discard` is set. A branch with
 * such commits is never deleted.
 */
export interface ConversationDelete {
  readonly discard?: boolean;
  readonly project_id?: string | null;
}

/**
 * Subscribe to a project, optionally with everything after `since`.
 *
 * With `large: "reference"` an entry of more than 16 KiB is sent as a preview, with `size` and `cut` next to its
 * `data` (see `MessageData`), so that no frame blocks a slow link for long; approval requests are sent whole.
 */
export interface ProjectJoin {
  readonly since?: number | string | Since | null;
  readonly large?: "reference" | "whole";
  readonly project_id?: string | null;
}

/**
 * The last entry that a client has.
 *
 * `timestamp` is that of the entry at `offset`: another one shows that the log was restored to an older state.
 */
export interface Since {
  readonly offset: number;
  readonly epoch?: string | null;
  readonly timestamp?: string | null;
}

/** Unsubscribe from a project. */
export interface ProjectLeave {
  readonly project_id?: string | null;
}

/**
 * Give the agent a prompt; it runs now or waits in the queue.
 *
 * `when`: `queue` behind the prompts that wait; `now` into the running turn, which takes it up between two steps (see
 * `PromptData`); `interrupt` ends the running execution and starts this one. A prompt that cannot join the running
 * turn, since that has just begun or has other options, becomes the next one of the queue.
 *
 * `traceparent` (W3C Trace Context) makes the execution part of the client's trace; a malformed one is ignored.
 * While a terminal has the conversation open, the error is `PROCESS_ACTIVE`.
 */
export interface Execute {
  readonly prompt: string;
  readonly options?: Options | null;
  readonly prompt_id?: string | null;
  readonly traceparent?: string | null;
  readonly when?: "interrupt" | "now" | "queue";
  readonly project_id?: string | null;
}

/** The choices of a client for one execution. */
export interface Options {
  readonly model?: string | null;
  readonly fallback_model?: string | null;
  readonly permission_mode?: "acceptEdits" | "auto" | "bypassPermissions" | "default" | "dontAsk" | "plan" | null;
  readonly allowed_tools?: readonly string[];
  readonly disallowed_tools?: readonly string[];
  readonly append_system_prompt?: string | null;
  readonly mcp_config?: string | null;
  readonly strict_mcp_config?: boolean;
  readonly add_dirs?: readonly string[];
  readonly dangerously_skip_permissions?: boolean;
}

/**
 * End the running execution and all its processes.
 *
 * With `execution_id` only that one: when it does not run, the error is `PROCESS_NOT_FOUND`. With `hold_queue` the
 * prompts that wait stay queued until `queue_resume`.
 */
export interface AgentKill {
  readonly execution_id?: string | null;
  readonly hold_queue?: boolean;
  readonly project_id?: string | null;
}

/**
 * Ask the agent to stop; its session stays warm.
 *
 * `execution_id` and `hold_queue` as for `agent_kill`.
 */
export interface AgentInterrupt {
  readonly execution_id?: string | null;
  readonly hold_queue?: boolean;
  readonly project_id?: string | null;
}

/** End one background task of the agent (`project_state.tasks`): a subagent or a command. */
export interface StopTask {
  readonly task_id: string;
  readonly project_id?: string | null;
}

/**
 * Ask the agent's process about itself: its context window, its MCP servers, or the usage limits of its account.
 *
 * Without a process the error is `PROCESS_NOT_FOUND`; the next prompt starts one.
 */
export interface AgentReport {
  readonly report: "context" | "mcp" | "usage";
  readonly project_id?: string | null;
}

/**
 * Set the files back to their state before an execution, as far as the agent's file tools have changed them.
 *
 * Commands of the agent, and the user's own changes, are not undone. `dry_run` only reports what would change.
 * `PROCESS_ACTIVE` while the agent works. The prompt has to be one of the agent's present conversation.
 */
export interface RewindFiles {
  readonly execution_id: string;
  readonly dry_run?: boolean;
  readonly project_id?: string | null;
}

/** Start a fresh conversation with the next prompt. */
export interface AgentNewSession {
  readonly project_id?: string | null;
}

/**
 * Read a page of the log: the newest entries, those before `before`, or those after `since`.
 *
 * A page has at most `limit` entries and `max_bytes` of data (8 MiB by default), but one entry always. With
 * `large: "reference"` an entry of more than 16 KiB is a preview, see `MessageData`; a page of one entry without it
 * fetches the whole.
 */
export interface GetMessages {
  readonly since?: number | string | Since | null;
  readonly before?: number | Since | null;
  readonly limit?: number;
  readonly direction?: "all" | "claude" | "client" | "server";
  readonly max_bytes?: number | null;
  readonly large?: "reference" | "whole";
  readonly project_id?: string | null;
}

/**
 * Answer a tool request of the agent, or a question of an MCP server; the first answer wins. `remember` applies the
 * request's `suggestions` to the rest of the session.
 *
 * `content` and `cancel` are for questions of MCP servers (`Elicitation`): `allow` accepts, with the values of the
 * form's fields; `deny` declines, or closes the question without an answer (`cancel`).
 */
export interface ApprovalRespond {
  readonly approval_id: string;
  readonly behavior: "allow" | "deny";
  readonly message?: string | null;
  readonly updated_input?: Readonly<Record<string, unknown>> | null;
  readonly remember?: boolean;
  readonly content?: Readonly<Record<string, unknown>> | null;
  readonly cancel?: boolean;
  readonly project_id?: string | null;
}

/** Change a prompt that still waits in the queue. */
export interface PromptEdit {
  readonly execution_id: string;
  readonly prompt: string;
  readonly project_id?: string | null;
}

/** Give a prompt that waits in the queue to the agent now, as `execute` with `when: "now"` does. */
export interface PromptPromote {
  readonly execution_id: string;
  readonly project_id?: string | null;
}

/** Withdraw a prompt that still waits in the queue. */
export interface PromptCancel {
  readonly execution_id: string;
  readonly project_id?: string | null;
}

/** Start the prompts that wait, in order, after the queue was on hold; without a hold nothing changes. */
export interface QueueResume {
  readonly project_id?: string | null;
}

/** Choose the model of the project, now and for later prompts; null is the CLI's default. */
export interface SetModel {
  readonly model: string | null;
  readonly project_id?: string | null;
}

/** Choose the permission mode of the project, now and for later prompts. */
export interface SetPermissionMode {
  readonly mode: "acceptEdits" | "auto" | "bypassPermissions" | "default" | "dontAsk" | "plan";
  readonly project_id?: string | null;
}

/**
 * List the conversations of a project that can be resumed: the server's, and those of terminals.
 *
 * With `watch` the connection gets `sessions_changed` from then on, until `session_unfollow` without a `session_id`.
 */
export interface SessionList {
  readonly watch?: boolean;
  readonly project_id?: string | null;
}

/**
 * Continue an older conversation with the next prompt, or a copy of it (`fork`).
 *
 * A session that a terminal has open is refused with `PROCESS_ACTIVE` unless `fork` is set: the CLI would mix the
 * records of both.
 */
export interface SessionResume {
  readonly session_id: string;
  readonly fork?: boolean;
  readonly project_id?: string | null;
}

/**
 * End the idle process of the agent, so that a terminal can continue the conversation.
 *
 * While the agent does something, the error is `PROCESS_ACTIVE`.
 */
export interface SessionRelease {
  readonly project_id?: string | null;
}

/**
 * Read a page of a session from the CLI's own file: the newest records, or those before the position `before`.
 *
 * Records of the CLI's own bookkeeping, and of subagents, are left out. `limit`, `max_bytes` and `large` are those of
 * `get_messages`.
 */
export interface SessionHistory {
  readonly session_id: string;
  readonly before?: number | null;
  readonly limit?: number;
  readonly max_bytes?: number | null;
  readonly large?: "reference" | "whole";
  readonly project_id?: string | null;
}

/**
 * Get the records of a session from a position on, and new ones within 2 seconds, until `session_unfollow`.
 *
 * `epoch` and `after` are `epoch` and `end` of `session_history`; without them only new records are sent. A connection
 * can follow 8 sessions and lists; following one again replaces its position.
 */
export interface SessionFollow {
  readonly session_id: string;
  readonly epoch?: string | null;
  readonly after?: number | null;
  readonly large?: "reference" | "whole";
  readonly project_id?: string | null;
}

/** Stop to follow a session, or without `session_id` to watch the list; nothing happens when it is not followed. */
export interface SessionUnfollow {
  readonly session_id?: string | null;
  readonly project_id?: string | null;
}

/** List a project's executions with what they used, newest first; `before` is the last id of the page before. */
export interface ExecutionList {
  readonly limit?: number;
  readonly before?: string | null;
  readonly project_id?: string | null;
}

/**
 * Get the state and the approvals of all projects, joined or not; `away`: no user is at this client.
 *
 * Users are then notified as if it were not connected. Each `watch` replaces `away` of the one before. With
 * `announce`, `incoming` is sent before large frames, for clients that see a frame only once all of it arrived.
 * With `conversations`, or once it has named a `conversation_id`, the connection also gets the frames of conversations
 * other than the main ones; without, it sees each project as one conversation.
 */
export interface Watch {
  readonly away?: boolean;
  readonly announce?: boolean;
  readonly conversations?: boolean;
}

/** List the directories with which the path of a new project may continue; an empty path lists where to start. */
export interface PathComplete {
  readonly path: string;
}

/**
 * Show what a directory has the CLI do without asking, before it becomes a project or while it is one.
 *
 * That is hooks, MCP servers, rules and variables of its own settings, in files that one of `claude.setting_sources`
 * reads. The reply has a page of them, from `offset` on.
 */
export interface PathInspect {
  readonly path: string;
  readonly offset?: number;
}

/** List the devices that may connect. */
export type DeviceList = Readonly<Record<string, never>>;

/** Rename a device. */
export interface DeviceRename {
  readonly device_id: string;
  readonly name: string;
}

/**
 * End a device's access: its connections are closed, its pairing codes end, its queued prompts are withdrawn.
 *
 * `kill` also kills its executions. `paired` also revokes the devices paired by its codes, and by theirs.
 */
export interface DeviceRevoke {
  readonly device_id: string;
  readonly kill?: boolean;
  readonly paired?: boolean;
}

/**
 * Replace a device's token; the old one ends at once, and with it what `device_revoke` ends.
 *
 * The cookie of a browser becomes a token; a browser replaces its own cookie by `POST /api/rotate`. `kill` also kills
 * the device's executions.
 */
export interface DeviceRotate {
  readonly device_id: string;
  readonly kill?: boolean;
}

/**
 * Get a code that pairs one more device, within five minutes.
 *
 * `name`: its name (by default it chooses one itself); `view_only`: it may change nothing; `projects`: the only ones
 * that it may see.
 */
export interface PairingStart {
  readonly name?: string | null;
  readonly view_only?: boolean;
  readonly projects?: readonly string[] | null;
}

/** End a pairing code that was not redeemed yet, by its `id` in `device_list`. */
export interface PairingCancel {
  readonly pairing_id: string;
}

/** Get the health of the server. */
export type HealthCheck = Readonly<Record<string, never>>;

/** Get statistics, once or every `interval` seconds (0 stops). */
export interface ServerStats {
  readonly interval?: number | null;
}

/** Get the samples of the last `range` seconds, then the new ones, every `interval` seconds (0 stops). */
export interface ServerHistory {
  readonly range?: number;
  readonly interval?: number | null;
}

/** Get checks, limits, slow executions and the last errors, once or every `interval` seconds (0 stops). */
export interface ServerOverview {
  readonly interval?: number | null;
}

/**
 * The current state of a project, that is of its main conversation; or of another conversation of the project.
 *
 * `path` is byte for byte as its creator gave it. Another conversation has its `conversation_id`, and may have a
 * `title`, a `worktree` (`path` is then that of the worktree) and `archived`.
 *
 * `queue_hold` is null unless prompts wait and do not start.
 *
 * `state` is EXECUTING also while a subagent, or a turn that the agent started by itself, runs without a prompt;
 * `agent_interrupt` and `agent_kill` end these too. A command in the background (in `tasks`) does not make it
 * EXECUTING: it may run for ever. `permission_mode` is that of the agent's process, or the choice for the next one.
 * `session_title` is the first prompt of the conversation, truncated. `usage_windows`: the limits of a subscription,
 * as the API reported them last to any project of the server. `last_line` is not there before the first prompt, and
 * after the deletion of its entry.
 */
export interface ProjectStateData {
  readonly id: string;
  readonly path: string;
  readonly name: string;
  readonly state: ProjectState;
  readonly session_id: string | null;
  readonly created_at: string;
  readonly last_active: string;
  readonly epoch: string;
  readonly offset: number;
  readonly queue_depth: number;
  readonly pending_approvals: number;
  readonly model: string | null;
  readonly permission_mode: string | null;
  readonly queue_hold?: QueueHoldData | null;
  readonly tasks?: readonly BackgroundTaskData[];
  readonly session_title?: string | null;
  readonly usage_windows?: readonly UsageWindowData[];
  readonly conversation_id?: string;
  readonly title?: string;
  readonly worktree?: WorktreeData;
  readonly archived?: boolean;
  readonly last_line?: LastLineData;
}

/** The state of a project, as clients see it. */
export type ProjectState = "ERROR" | "EXECUTING" | "IDLE";

/**
 * The prompts that wait do not start: `message` is the reason for a person, `since` is RFC 3339.
 *
 * An error that is not the prompts' own holds the queue, and so does a client with `hold_queue`. The hold ends with
 * `queue_resume`, with a new `execute` (whose prompt is queued behind those that wait), when no prompt waits any more,
 * and by itself when the directory (`directory`) or the CLI (`cli`) is back. `trust`: the project's own settings have
 * the CLI do something that was not accepted; it ends only with `project_trust`, or when the settings are gone.
 *
 * While the first prompt of the queue is paused (`QueuedPrompt.status`), the hold stays when a new prompt comes. It
 * ends at `until` by itself, when that is not null (`usage_limit`), with `queue_resume`, which continues the paused
 * prompt at once, and with the `prompt_cancel` of a prompt whose process was `lost`.
 */
export interface QueueHoldData {
  readonly reason: HoldReason;
  readonly message: string;
  readonly since: string;
  readonly until?: string | null;
}

/** Why the queue of a project is on hold. */
export type HoldReason = "authentication" | "cli" | "conversation" | "credit" | "directory" | "interrupted" | "killed" | "lost" | "network" | "overloaded" | "start" | "trust" | "usage_limit";

/**
 * A background task of the agent; `type` is the CLI's: `local_agent` is a subagent, `local_bash` a command.
 *
 * Of a subagent also what it has used so far, its newest tool, and what it does now (`summary`).
 */
export interface BackgroundTaskData {
  readonly task_id: string;
  readonly type: string;
  readonly description: string;
  readonly started_at?: string | null;
  readonly tokens?: number;
  readonly tool_uses?: number;
  readonly last_tool?: string;
  readonly summary?: string;
}

/** A usage limit of the account: `five_hour`, `seven_day`, ...; `utilization` is the used share, 1 at the limit. */
export interface UsageWindowData {
  readonly window: string;
  readonly utilization: number;
  readonly resets_at: string;
  readonly status: string;
}

/** The git worktree of a conversation; `base` is the commit at which its branch began. */
export interface WorktreeData {
  readonly branch: string;
  readonly base: string;
}

/**
 * The beginning of the newest prompt (`by` is `user`) or text of the agent, on one line of at most 120 characters.
 *
 * `at` is the time of its entry.
 */
export interface LastLineData {
  readonly text: string;
  readonly by: "agent" | "user";
  readonly at: string;
}

/** Reply to `project_list`. */
export interface ProjectListData {
  readonly projects: readonly ProjectStateData[];
  readonly total: number;
}

/** A project was deleted. */
export interface ProjectDeletedData {
  readonly project_id: string;
}

/**
 * Reply to `conversation_list`: the state of each conversation, the main one first.
 *
 * `worktrees`: null when a conversation can have a worktree, else the reason why not.
 */
export interface ConversationListData {
  readonly project_id: string;
  readonly conversations: readonly ProjectStateData[];
  readonly worktrees: string | null;
}

/** A conversation was deleted. `kept_branch`: the branch of its worktree, when it stays. */
export interface ConversationDeletedData {
  readonly project_id: string;
  readonly conversation_id: string;
  readonly kept_branch?: string | null;
}

/** Reply to `project_join`, with the approvals and prompts that wait. */
export interface ProjectJoinData {
  readonly project_id: string;
  readonly state: ProjectState;
  readonly session_id: string | null;
  readonly epoch: string;
  readonly offset: number;
  readonly recovered: boolean;
  readonly approvals: readonly ApprovalRequestedData[];
  readonly queue: readonly QueuedPrompt[];
  readonly partial?: PartialData | null;
}

/**
 * The agent asks to use a tool, and waits. `tool_use_id` is that of the `tool_use` block in its message.
 *
 * `suggestions` is what `remember` also allows: the rule for this tool where the CLI suggests one, else all its
 * suggestions (such as the permission mode `acceptEdits`), which a client must show. `agent_id` names the subagent
 * that asks, absent for the main thread. A subagent may ask when no execution runs (`execution_id` is null). The
 * request is open until it is answered, the agent withdraws it, its turn ends, or its process has ended.
 *
 * `tool_name` is `Elicitation` when an MCP server asks the user. `input` has the server (`mcp_server_name`), its
 * `message`, and either the form's `requested_schema` (as MCP 2025-11-25 defines it) with its `property_order`, or,
 * with the `mode` `url`, the address `url` at which the user answers; to accept such a question says that it is done.
 *
 * `terminal` is there when a session in a terminal asks, which shows a dialog of its own: the request is withdrawn
 * when it is answered there. It is not an entry of the log.
 */
export interface ApprovalRequestedData {
  readonly approval_id: string;
  readonly tool_name: string;
  readonly input: unknown;
  readonly title: string | null;
  readonly description: string | null;
  readonly suggestions: unknown;
  readonly execution_id: string | null;
  readonly tool_use_id?: string | null;
  readonly agent_id?: string | null;
  readonly terminal?: TerminalData;
}

/** A session of the CLI in a terminal, and the directory that it is in. */
export interface TerminalData {
  readonly session_id: string;
  readonly directory: string;
}

/**
 * A prompt that waits; `position` counts from 1.
 *
 * `status`: `queued`; or of the first one `waiting` or `interrupted`, when it has run and is paused, for a usage limit
 * or since its process was lost. `queue_resume` continues it, `prompt_cancel` drops it.
 */
export interface QueuedPrompt {
  readonly execution_id: string;
  readonly prompt: string;
  readonly position: number;
  readonly created_at: string;
  readonly status?: ExecutionStatus;
}

/** The status of an execution. The last five are final, the two before them are paused. */
export type ExecutionStatus = "cancelled" | "error" | "interrupted" | "killed" | "queued" | "running" | "starting" | "steering" | "success" | "timeout" | "waiting";

/** The text and the thinking so far of a message that is being written. */
export interface PartialData {
  readonly text: string;
  readonly thinking: string;
}

/** Reply to `project_leave`. */
export interface ProjectLeaveData {
  readonly project_id: string;
}

/**
 * Reply to `execute`; `position` is 0 for a prompt that runs, else its place in the queue from 1.
 *
 * `steering`: it was written into the running turn.
 */
export interface ExecuteData {
  readonly project_id: string;
  readonly execution_id: string;
  readonly status: "queued" | "started" | "steering";
  readonly position: number;
}

/**
 * Reply to `agent_kill`, and the entry `process_killed`. `execution_id` is null when no prompt was running, but a
 * subagent, a turn of the agent's own, or a command in the background.
 */
export interface AgentKillData {
  readonly project_id: string;
  readonly execution_id: string | null;
  readonly status?: "killed";
}

/**
 * Reply to `agent_interrupt`; `execution_id` as of `agent_kill`. An interrupt ends the turn and the subagents;
 * commands in the background go on, unless nothing else runs.
 */
export interface AgentInterruptData {
  readonly project_id: string;
  readonly execution_id: string | null;
  readonly status?: "interrupting";
}

/** Reply to `stop_task`. */
export interface StopTaskData {
  readonly project_id: string;
  readonly task_id: string;
}

/** Reply to `agent_report`; only the part that was asked for is not null. */
export interface AgentReportData {
  readonly project_id: string;
  readonly context?: ContextUsageData | null;
  readonly mcp_servers?: readonly McpServerData[] | null;
  readonly usage_windows?: readonly UsageWindowData[] | null;
}

/** The use of the context window, in tokens. */
export interface ContextUsageData {
  readonly model: string;
  readonly total_tokens: number;
  readonly max_tokens: number;
  readonly categories: readonly ContextCategoryData[];
}

/** A part of the context window; `kind` is the CLI's: `used`, `free`, ... */
export interface ContextCategoryData {
  readonly name: string;
  readonly tokens: number;
  readonly kind: string;
}

/** An MCP server of the agent; `status` is the CLI's: `connected`, `failed`, `needs-auth`, `pending`, ... */
export interface McpServerData {
  readonly name: string;
  readonly status: string;
  readonly error: string | null;
}

/** Reply to `rewind_files`: the files (of a dry run) and the numbers of lines that it changes. `error`: why not. */
export interface RewindFilesData {
  readonly project_id: string;
  readonly execution_id: string;
  readonly can_rewind: boolean;
  readonly files: readonly string[];
  readonly insertions: number;
  readonly deletions: number;
  readonly error: string | null;
}

/** Reply to `agent_new_session`, and the entry `session_reset`. */
export interface SessionResetData {
  readonly project_id: string;
  readonly old_session_id: string | null;
  readonly status?: "reset";
}

/** Reply to `get_messages`. */
export interface MessagesData {
  readonly messages: readonly MessageData[];
  readonly metadata: MessagesMetadata;
}

/**
 * An entry in a page of history: `type` and `message` are the type and `data` of its frame.
 *
 * With `large: "reference"` the `message` of a large one is a preview: an object of the same shape, with long strings,
 * arrays and objects truncated. `size` is then the bytes of the whole, and `cut` has JSON pointers to the truncated
 * places (RFC 6901; "" is everything). Frames of entries have the two next to their `data`.
 */
export interface MessageData {
  readonly offset: number;
  readonly timestamp: string;
  readonly direction: string;
  readonly type: string;
  readonly message: unknown;
  readonly size?: number | null;
  readonly cut?: readonly string[];
}

/** The page's place in the log. `has_more` is about the direction of reading. */
export interface MessagesMetadata {
  readonly epoch: string;
  readonly first_offset: number;
  readonly last_offset: number;
  readonly has_more: boolean;
}

/**
 * A device answered the request; `by` names it.
 *
 * `updated_input` replaces the request's `input` in the call of the tool, when the device changed it. `content` is the
 * answer to a question of an MCP server, and `cancel` is there when the question was closed without one.
 */
export interface ApprovalResolvedData {
  readonly approval_id: string;
  readonly behavior: "allow" | "deny";
  readonly by: string;
  readonly message?: string | null;
  readonly updated_input?: Readonly<Record<string, unknown>>;
  readonly content?: Readonly<Record<string, unknown>>;
  readonly cancel?: boolean;
}

/** Reply to `prompt_edit`, `prompt_promote` and `prompt_cancel`. */
export interface PromptChangedData {
  readonly project_id: string;
  readonly execution_id: string;
}

/** Reply to `queue_resume`. */
export interface QueueResumeData {
  readonly project_id: string;
  readonly status?: "resumed";
}

/** Reply to `set_model`. */
export interface SetModelData {
  readonly project_id: string;
  readonly model: string | null;
}

/** Reply to `set_permission_mode`. */
export interface SetPermissionModeData {
  readonly project_id: string;
  readonly mode: string;
}

/**
 * Reply to `session_list`, newest first.
 *
 * `truncated`: there are more of terminals than the last 100. `unavailable` is the reason why those of terminals are
 * missing.
 */
export interface SessionListData {
  readonly project_id: string;
  readonly sessions: readonly SessionData[];
  readonly truncated?: boolean;
  readonly unavailable?: string | null;
}

/**
 * A conversation that can be resumed; `title` is the beginning of its first prompt, unless the CLI or its user
 * named it.
 *
 * `origin` is `terminal` for a session that the CLI made without the server, in `directory`: that of the project, one
 * inside it, or one of its Git worktrees. The fields from `directory` on are null, or absent, for a session whose file
 * is gone. `turns` is the number of prompts, an estimate for a large file (`turns_estimated`), `size` that of the file
 * in bytes. `active`: a terminal has the session open. `resume_command` continues it in a shell. `conversation_id`:
 * the conversation of the project that continues it, if one does; `session_resume` in another one needs `fork`.
 */
export interface SessionData {
  readonly session_id: string;
  readonly title: string;
  readonly created_at: string;
  readonly last_active: string;
  readonly current: boolean;
  readonly origin?: "server" | "terminal";
  readonly directory?: string | null;
  readonly first_prompt?: string | null;
  readonly turns?: number | null;
  readonly turns_estimated?: boolean;
  readonly size?: number | null;
  readonly active?: boolean;
  readonly resume_command?: string | null;
  readonly conversation_id?: string | null;
}

/** Reply to `session_resume`: the conversation that the next prompt continues. */
export interface SessionResumeData {
  readonly project_id: string;
  readonly session_id: string;
  readonly fork: boolean;
}

/** Reply to `session_release`: the command that continues the conversation in a shell, null without a session. */
export interface SessionReleaseData {
  readonly project_id: string;
  readonly session_id: string | null;
  readonly directory: string;
  readonly resume_command: string | null;
}

/**
 * Reply to `session_history`, the oldest record first.
 *
 * A message is that of `get_messages`; its `offset` is the position of the record in the file, in bytes. Its type is
 * `prompt` for what a user typed, `agent_message` for all other records, as the CLI wrote them, or `error` for a line
 * that is not a record. `before` is the position for the page before, 0 at the beginning of the file; a page may be
 * empty although there is an older one. `epoch` and `end` are for `session_follow`: the file, and the position behind
 * the newest record.
 */
export interface SessionHistoryData {
  readonly project_id: string;
  readonly session_id: string;
  readonly epoch: string;
  readonly messages: readonly MessageData[];
  readonly before: number;
  readonly end: number;
}

/**
 * Reply to `session_follow`, and its pushes: the records that a terminal has written since.
 *
 * `end` is the position behind them. `active`: a terminal has the session open; a push without messages reports a
 * change of it. `ended`: the file was `deleted`, or `replaced` by another or a shorter one, and is not followed any
 * longer; read the history again.
 */
export interface SessionLinesData {
  readonly session_id: string;
  readonly epoch: string;
  readonly messages: readonly MessageData[];
  readonly end: number;
  readonly active: boolean;
  readonly ended?: "deleted" | "replaced" | null;
}

/** Reply to `session_unfollow`. */
export interface SessionUnfollowData {
  readonly project_id: string;
  readonly session_id: string | null;
}

/** Reply to `execution_list`, newest first. */
export interface ExecutionListData {
  readonly project_id: string;
  readonly executions: readonly ExecutionData[];
  readonly has_more: boolean;
}

/**
 * An execution, with the beginning of its prompt (200 characters).
 *
 * `waited_ms` is the time it waited for approvals, `code` the error that ended it, `model` the one that answered
 * most; `cost_usd` is the sum over `usage`. `incomplete`: it ended before the CLI reported its usage, so that this
 * is a lower bound, without dollars.
 */
export interface ExecutionData {
  readonly execution_id: string;
  readonly prompt_id: string | null;
  readonly by: string;
  readonly prompt: string;
  readonly status: ExecutionStatus;
  readonly created_at: string;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  readonly waited_ms: number;
  readonly code: string | null;
  readonly session_id: string | null;
  readonly model: string | null;
  readonly usage: readonly UsageData[];
  readonly cost_usd: number;
  readonly incomplete: boolean;
}

/** The usage of one model. The four counts of tokens do not overlap; the CLI computes the cost. */
export interface UsageData {
  readonly model: string;
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly cache_read_tokens: number;
  readonly cache_creation_tokens: number;
  readonly cost_usd: number;
}

/**
 * Reply to `watch`: the current state of all projects.
 *
 * From then on the connection also gets each `project_state`, `approval_requested`, `approval_resolved` and
 * `approval_cancelled` of the projects that it has not joined. Send `watch` again after leaving a project before all
 * its entries have come. A connection that was too congested for these pushes gets a `watch` without a `request_id`
 * once it has space: the state at that time, which replaces the earlier one. `conversations`: those other than the
 * main ones, for clients that know of them.
 */
export interface WatchData {
  readonly projects: readonly ProjectStateData[];
  readonly approvals: readonly WaitingApproval[];
  readonly conversations?: readonly ProjectStateData[];
}

/** A tool request that waits, and its project; `conversation_id` of a conversation that is not the main one. */
export interface WaitingApproval {
  readonly project_id: string;
  readonly approval: ApprovalRequestedData;
  readonly conversation_id?: string;
}

/** Reply to `path_complete`, only with paths in `projects.allowed_roots`. `truncated`: there are more. */
export interface PathCompleteData {
  readonly path: string;
  readonly entries: readonly DirectoryData[];
  readonly truncated: boolean;
}

/** A directory, and the project that it is already. */
export interface DirectoryData {
  readonly path: string;
  readonly project_id: string | null;
}

/**
 * Reply to `path_inspect`: the real path, the project that it is already, and what it has the CLI do by itself.
 *
 * `claims`: a page, from the `offset` of the request on: those not accepted for this project first, each part with
 * programs first and rules last. `total`: the number of all; `counts`: the number of each kind; `new`: the number of
 * those not accepted, which is all for a directory that is not a project. `hash` names this state of the directory,
 * for `project_create` and `project_trust`: another one on a later page means that it has changed.
 */
export interface PathInspectData {
  readonly path: string;
  readonly project_id: string | null;
  readonly claims: readonly Claim[];
  readonly total?: number;
  readonly counts?: Readonly<Record<string, number>>;
  readonly new?: number;
  readonly hash?: string;
}

/**
 * An effect of a directory's own settings that the CLI applies without asking.
 *
 * Attributes:
 * file: relative to the directory; the CLI also reads some files above it.
 * text: a description on one line.
 */
export interface Claim {
  readonly file: string;
  readonly kind: ClaimKind;
  readonly text: string;
}

/** The kind of a claim. */
export type ClaimKind = "program" | "rule" | "server" | "unknown" | "variable";

/**
 * Reply to `device_list`, the oldest first. `auth`: false where clients need no token.
 *
 * `pairings`: the codes that are valid now.
 */
export interface DeviceListData {
  readonly devices: readonly DeviceData[];
  readonly auth: boolean;
  readonly pairings: readonly PairingData[];
}

/**
 * A device that may connect, its open connections, and when and where it last connected.
 *
 * `view_only`: it may change nothing. `projects`: those that it may see; null for all. `current`: it sent this
 * request. `paired_by`: the device that made its pairing code. `queued`: its prompts that wait; `running`: its
 * executions that run. `credential`: `token` for programs, `cookie` for browsers, `either` for a device from before
 * keys that has not come back yet. `bound`: its cookie is valid only together with a key of the browser.
 */
export interface DeviceData {
  readonly id: string;
  readonly name: string;
  readonly view_only: boolean;
  readonly projects: readonly string[] | null;
  readonly created_at: string;
  readonly last_seen: string | null;
  readonly last_address: string | null;
  readonly connections: number;
  readonly current: boolean;
  readonly paired_by: string | null;
  readonly queued: number;
  readonly running: readonly RunningData[];
  readonly credential: Credential;
  readonly bound: boolean;
}

/** A running execution; `conversation_id` of a conversation that is not the main one. */
export interface RunningData {
  readonly project_id: string;
  readonly execution_id: string;
  readonly conversation_id?: string;
}

/** How a device sends its secret. A cookie's value is not a bearer token, and a token is not a cookie. */
export type Credential = "cookie" | "either" | "token";

/**
 * A pairing code that was not redeemed yet; the code itself is not stored.
 *
 * `name`, `view_only`, `projects`: those of the new device. `device_id`: the device that made the code; null for the
 * server and for commands on its machine.
 */
export interface PairingData {
  readonly id: string;
  readonly name: string | null;
  readonly view_only: boolean;
  readonly projects: readonly string[] | null;
  readonly device_id: string | null;
  readonly created_at: string;
  readonly expires_at: string;
}

/**
 * Reply to `device_revoke`.
 *
 * `revoked`: the devices that lost their access, this one first. `withdrawn`: the number of their queued prompts,
 * which were withdrawn. `running`: their executions that go on, without `kill`; `agent_kill` ends them.
 */
export interface DeviceRevokedData {
  readonly device_id: string;
  readonly revoked: readonly string[];
  readonly withdrawn: number;
  readonly running: readonly RunningData[];
}

/** Reply to `device_rotate`; `token` is sent only here. `withdrawn`, `running`: as in `device_revoke`. */
export interface DeviceRotatedData {
  readonly device_id: string;
  readonly token: string;
  readonly withdrawn: number;
  readonly running: readonly RunningData[];
}

/**
 * Reply to `pairing_start`. Each of `urls` is a page that redeems the code, the best first.
 *
 * `qr` has each of them as a QR code: a line of `0` (light) and `1` (dark) for each row, without a quiet zone.
 * `expires_in`: seconds until `expires_at`, for a client whose clock is wrong. `id`: for `pairing_cancel`.
 */
export interface PairingStartData {
  readonly id: string;
  readonly code: string;
  readonly expires_at: string;
  readonly expires_in: number;
  readonly urls: readonly string[];
  readonly qr: readonly (readonly string[])[];
}

/** Reply to `pairing_cancel`. */
export interface PairingCancelledData {
  readonly pairing_id: string;
}

/** Reply to `health_check`; `uptime` in seconds. */
export interface HealthCheckData {
  readonly status: "degraded" | "healthy" | "unhealthy";
  readonly version: string;
  readonly uptime: number;
  readonly connections: ConnectionFigures;
  readonly projects: ProjectFigures;
  readonly resources: ResourceFigures;
  readonly claude: ClaudeFigures;
  readonly checks: Readonly<Record<string, CheckData>>;
}

/** Open connections, and their limit. */
export interface ConnectionFigures {
  readonly active: number;
  readonly limit: number;
}

/** Projects, their limit, and the number of those that execute. */
export interface ProjectFigures {
  readonly count: number;
  readonly limit: number;
  readonly executing: number;
}

/** The resources of the server; the disk is the one of its data directory. */
export interface ResourceFigures {
  readonly cpu_percent: number;
  readonly memory_mb: number;
  readonly disk_free_gb: number;
}

/** The CLI that the server found. `demo`: it talks to the scripted demo model, which is not an AI. */
export interface ClaudeFigures {
  readonly available: boolean;
  readonly version: string | null;
  readonly demo?: boolean;
}

/** One health check. */
export interface CheckData {
  readonly status: "healthy" | "unhealthy" | "warning";
  readonly message?: string | null;
}

/** Reply to `server_stats`, and its pushes; `uptime` in seconds. */
export interface ServerStatsData {
  readonly connections: ConnectionFigures;
  readonly projects: ProjectFigures;
  readonly executions: ExecutionFigures;
  readonly messages: MessageFigures;
  readonly uptime: number;
  readonly cost: CostFigures;
}

/** Executions since the server started. */
export interface ExecutionFigures {
  readonly active: number;
  readonly total: number;
  readonly success: number;
  readonly failed: number;
  readonly avg_duration_ms: number;
}

/** Frames since the server started; the rate is of sent frames since the last report. */
export interface MessageFigures {
  readonly sent: number;
  readonly received: number;
  readonly rate_per_sec: number;
}

/** The cost of today's executions and its limit (0: none), in US dollars; the day is the server's. */
export interface CostFigures {
  readonly today_usd: number;
  readonly limit_usd: number;
}

/**
 * Reply to `server_history`, and its pushes, which hold the points since the one before.
 *
 * `times` are in milliseconds since the Unix epoch, `step` seconds apart; each of `series` has a value for each of
 * `times`, null where there was no sample. A series of `errors` that is missing is 0 throughout. The history starts
 * with the server: another `began` than before means a new history.
 */
export interface ServerHistoryData {
  readonly began: string;
  readonly step: number;
  readonly times: readonly number[];
  readonly series: Readonly<Record<string, readonly (number | null)[]>>;
}

/**
 * Reply to `server_overview`, and its pushes; `uptime` in seconds, a `runbook` is /docs/runbooks/NAME.
 *
 * `usage_windows`: the usage limits of the account. `paused`: the number of executions that wait for a reset, or for a
 * client's decision since their process was lost.
 */
export interface ServerOverviewData {
  readonly status: "degraded" | "healthy" | "unhealthy";
  readonly version: string;
  readonly revision: string;
  readonly python_version: string;
  readonly started_at: string;
  readonly uptime: number;
  readonly claude: ClaudeFigures;
  readonly checks: readonly CheckStateData[];
  readonly limits: readonly LimitData[];
  readonly running: readonly SlowExecutionData[];
  readonly slowest: readonly SlowExecutionData[];
  readonly errors: readonly LastErrorData[];
  readonly usage_windows?: readonly UsageWindowData[];
  readonly paused?: number;
}

/** A health check, and since when it has had this status (null: it has not run yet). */
export interface CheckStateData {
  readonly name: string;
  readonly status: "healthy" | "unhealthy" | "warning";
  readonly message: string | null;
  readonly since: string | null;
  readonly runbook: string | null;
}

/** A limit (0: none) and how much of it is used, as in the metrics `limit` and `limit_usage`. */
export interface LimitData {
  readonly name: string;
  readonly usage: number;
  readonly limit: number;
  readonly runbook: string | null;
}

/**
 * An execution that runs, or one of the slowest that ended; `waiting`: it waits for an approval now.
 *
 * `conversation_id` of a conversation that is not the main one of its project.
 */
export interface SlowExecutionData {
  readonly execution_id: string;
  readonly project_id: string;
  readonly project: string | null;
  readonly status: ExecutionStatus;
  readonly model: string | null;
  readonly started_at: string;
  readonly duration_ms: number;
  readonly waited_ms: number;
  readonly waiting: boolean;
  readonly conversation_id?: string;
}

/** An error, its number since the server started, and the time and the request of the last one. */
export interface LastErrorData {
  readonly code: string;
  readonly operation: string;
  readonly message: string;
  readonly count: number;
  readonly at: string;
  readonly correlation_id: string | null;
  readonly project_id: string | null;
  readonly runbook: string | null;
}

/** The first frame to a page whose cookie is bound to a key: the page signs `nonce`, see *In a browser*. */
export interface ChallengeData {
  readonly nonce: string;
}

/** Reply to `prove`: the page is authenticated as this device, and may send requests. */
export interface ProvedData {
  readonly device_id: string;
}

/** The next `frames` frames have `bytes` bytes together, more than 16 KiB; only for `watch` with `announce`. */
export interface IncomingData {
  readonly bytes: number;
  readonly frames: number;
}

/** The number of connections that are subscribed to the project (`project_joined`, `project_left`). */
export interface SubscribersData {
  readonly project_id: string;
  readonly subscribers: number;
}

/** The prompts that wait, in order; `queue_hold` as in `project_state`. */
export interface QueueStateData {
  readonly queue: readonly QueuedPrompt[];
  readonly queue_hold?: QueueHoldData | null;
}

/**
 * Sessions that have begun or changed since `session_list` with `watch`, within 2 seconds, and those that are gone.
 *
 * Each of `sessions` replaces the one with its id. A change of nothing but `size` and `last_active` is not sent, so
 * that a session that works does not send one each second.
 */
export interface SessionsChangedData {
  readonly project_id: string;
  readonly sessions: readonly SessionData[];
  readonly gone?: readonly string[];
}

/**
 * An entry: a prompt was given to the agent.
 *
 * `continues`: the execution was paused for this reason and continues, with a short prompt of the server when its
 * session has the original one. `steers`: the prompt was written into the running turn of this execution. The agent
 * takes it up between two steps, and its execution is then over; a turn that ends before starts another one with it.
 * `typed_at`: it was given in a terminal, at this time (RFC 3339), see `TerminalTurnsData`; `execution_id` is then the
 * `uuid` of its record, and there is no such execution.
 */
export interface PromptData {
  readonly execution_id: string;
  readonly prompt: string;
  readonly by: string;
  readonly prompt_id?: string | null;
  readonly continues?: HoldReason | null;
  readonly steers?: string | null;
  readonly typed_at?: string | null;
}

/** An entry: an execution stopped before its end, and is first in the queue to continue; see `QueueHoldData`. */
export interface ExecutionPausedData {
  readonly execution_id: string;
  readonly reason: HoldReason;
  readonly message: string;
  readonly until: string | null;
}

/**
 * The next prompt continues this conversation, or a copy (`fork`); `title` is its first prompt, truncated.
 *
 * `end` is the position in the file of the session behind its history at that time: `session_history` with it as
 * `before` has the turns that precede this entry. Null when the CLI keeps no file of it.
 */
export interface SessionResumedData {
  readonly session_id: string;
  readonly fork: boolean;
  readonly title: string;
  readonly end?: number | null;
}

/**
 * An entry: those that follow are turns of a terminal in the session, up to the next prompt without `typed_at`.
 *
 * Their `agent_message`s are the records of the CLI's file, as in `session_history`. `lost`: the file was replaced, or
 * has become shorter, so that turns of a terminal may be missing here; `session_history` has what the file has now.
 */
export interface TerminalTurnsData {
  readonly session_id: string;
  readonly lost?: boolean;
}

/** The written part of a message whose execution ended before the message was complete. */
export interface AgentPartialData {
  readonly text: string;
  readonly thinking: string;
}

/** The request was withdrawn: by the agent, or because its turn or the agent's process ended. */
export interface ApprovalCancelledData {
  readonly approval_id: string;
  readonly reason: string;
}

/** An error; `message` is for a person. */
export interface ErrorData {
  readonly code: "INTERNAL_ERROR" | "INVALID_MESSAGE" | "VALIDATION_FAILED" | "INVALID_PATH" | "PROJECT_NESTING" | "PROJECT_EXISTS" | "PROJECT_NOT_FOUND" | "PROJECT_LIMIT" | "PROCESS_ACTIVE" | "PROCESS_NOT_FOUND" | "APPROVAL_NOT_FOUND" | "EXECUTION_TIMEOUT" | "EXECUTION_FAILED" | "CLAUDE_NOT_FOUND" | "TRUST_REQUIRED" | "RESOURCE_LIMIT" | "RATE_LIMITED" | "UNAUTHORIZED" | "FORBIDDEN" | "FILE_OPERATION";
  readonly message: string;
  readonly details?: Readonly<Record<string, unknown>> | null;
}

/** The data of each request by its type. */
export interface Requests {
  readonly project_create: ProjectCreate;
  readonly project_list: ProjectList;
  readonly project_trust: ProjectTrust;
  readonly project_delete: ProjectDelete;
  readonly conversation_create: ConversationCreate;
  readonly conversation_list: ConversationList;
  readonly conversation_rename: ConversationRename;
  readonly conversation_archive: ConversationArchive;
  readonly conversation_delete: ConversationDelete;
  readonly project_join: ProjectJoin;
  readonly project_leave: ProjectLeave;
  readonly execute: Execute;
  readonly agent_kill: AgentKill;
  readonly agent_interrupt: AgentInterrupt;
  readonly stop_task: StopTask;
  readonly agent_report: AgentReport;
  readonly rewind_files: RewindFiles;
  readonly agent_new_session: AgentNewSession;
  readonly get_messages: GetMessages;
  readonly approval_respond: ApprovalRespond;
  readonly prompt_edit: PromptEdit;
  readonly prompt_promote: PromptPromote;
  readonly prompt_cancel: PromptCancel;
  readonly queue_resume: QueueResume;
  readonly set_model: SetModel;
  readonly set_permission_mode: SetPermissionMode;
  readonly session_list: SessionList;
  readonly session_resume: SessionResume;
  readonly session_release: SessionRelease;
  readonly session_history: SessionHistory;
  readonly session_follow: SessionFollow;
  readonly session_unfollow: SessionUnfollow;
  readonly execution_list: ExecutionList;
  readonly watch: Watch;
  readonly path_complete: PathComplete;
  readonly path_inspect: PathInspect;
  readonly device_list: DeviceList;
  readonly device_rename: DeviceRename;
  readonly device_revoke: DeviceRevoke;
  readonly device_rotate: DeviceRotate;
  readonly pairing_start: PairingStart;
  readonly pairing_cancel: PairingCancel;
  readonly health_check: HealthCheck;
  readonly server_stats: ServerStats;
  readonly server_history: ServerHistory;
  readonly server_overview: ServerOverview;
}

/** The data of the reply to each request. */
export interface Replies {
  readonly project_create: ProjectStateData;
  readonly project_list: ProjectListData;
  readonly project_trust: ProjectStateData;
  readonly project_delete: ProjectDeletedData;
  readonly conversation_create: ProjectStateData;
  readonly conversation_list: ConversationListData;
  readonly conversation_rename: ProjectStateData;
  readonly conversation_archive: ProjectStateData;
  readonly conversation_delete: ConversationDeletedData;
  readonly project_join: ProjectJoinData;
  readonly project_leave: ProjectLeaveData;
  readonly execute: ExecuteData;
  readonly agent_kill: AgentKillData;
  readonly agent_interrupt: AgentInterruptData;
  readonly stop_task: StopTaskData;
  readonly agent_report: AgentReportData;
  readonly rewind_files: RewindFilesData;
  readonly agent_new_session: SessionResetData;
  readonly get_messages: MessagesData;
  readonly approval_respond: ApprovalResolvedData;
  readonly prompt_edit: PromptChangedData;
  readonly prompt_promote: PromptChangedData;
  readonly prompt_cancel: PromptChangedData;
  readonly queue_resume: QueueResumeData;
  readonly set_model: SetModelData;
  readonly set_permission_mode: SetPermissionModeData;
  readonly session_list: SessionListData;
  readonly session_resume: SessionResumeData;
  readonly session_release: SessionReleaseData;
  readonly session_history: SessionHistoryData;
  readonly session_follow: SessionLinesData;
  readonly session_unfollow: SessionUnfollowData;
  readonly execution_list: ExecutionListData;
  readonly watch: WatchData;
  readonly path_complete: PathCompleteData;
  readonly path_inspect: PathInspectData;
  readonly device_list: DeviceListData;
  readonly device_rename: DeviceData;
  readonly device_revoke: DeviceRevokedData;
  readonly device_rotate: DeviceRotatedData;
  readonly pairing_start: PairingStartData;
  readonly pairing_cancel: PairingCancelledData;
  readonly health_check: HealthCheckData;
  readonly server_stats: ServerStatsData;
  readonly server_history: ServerHistoryData;
  readonly server_overview: ServerOverviewData;
}

/** The data of each frame by its type; `agent_message` is the CLI's line. */
export interface Pushes {
  readonly project_state: ProjectStateData;
  readonly project_list_response: ProjectListData;
  readonly project_deleted: ProjectDeletedData;
  readonly conversation_create: ProjectStateData;
  readonly conversation_list: ConversationListData;
  readonly conversation_rename: ProjectStateData;
  readonly conversation_archive: ProjectStateData;
  readonly conversation_delete: ConversationDeletedData;
  readonly project_join: ProjectJoinData;
  readonly project_leave: ProjectLeaveData;
  readonly execute: ExecuteData;
  readonly agent_kill: AgentKillData;
  readonly agent_interrupt: AgentInterruptData;
  readonly stop_task: StopTaskData;
  readonly agent_report: AgentReportData;
  readonly rewind_files: RewindFilesData;
  readonly agent_new_session: SessionResetData;
  readonly messages_response: MessagesData;
  readonly approval_resolved: ApprovalResolvedData;
  readonly prompt_edit: PromptChangedData;
  readonly prompt_promote: PromptChangedData;
  readonly prompt_cancel: PromptChangedData;
  readonly queue_resume: QueueResumeData;
  readonly set_model: SetModelData;
  readonly set_permission_mode: SetPermissionModeData;
  readonly session_list: SessionListData;
  readonly session_resume: SessionResumeData;
  readonly session_release: SessionReleaseData;
  readonly session_history: SessionHistoryData;
  readonly session_lines: SessionLinesData;
  readonly session_unfollow: SessionUnfollowData;
  readonly execution_list: ExecutionListData;
  readonly watch: WatchData;
  readonly path_complete: PathCompleteData;
  readonly path_inspect: PathInspectData;
  readonly device_list: DeviceListData;
  readonly device_rename: DeviceData;
  readonly device_revoke: DeviceRevokedData;
  readonly device_rotate: DeviceRotatedData;
  readonly pairing_start: PairingStartData;
  readonly pairing_cancel: PairingCancelledData;
  readonly health_check: HealthCheckData;
  readonly server_stats: ServerStatsData;
  readonly server_history: ServerHistoryData;
  readonly server_overview: ServerOverviewData;
  readonly challenge: ChallengeData;
  readonly prove: ProvedData;
  readonly incoming: IncomingData;
  readonly conversation_deleted: ConversationDeletedData;
  readonly project_joined: SubscribersData;
  readonly project_left: SubscribersData;
  readonly queue_state: QueueStateData;
  readonly sessions_changed: SessionsChangedData;
  readonly prompt: PromptData;
  readonly execution_paused: ExecutionPausedData;
  readonly process_killed: AgentKillData;
  readonly session_reset: SessionResetData;
  readonly session_resumed: SessionResumedData;
  readonly terminal_turns: TerminalTurnsData;
  readonly agent_partial: AgentPartialData;
  readonly approval_requested: ApprovalRequestedData;
  readonly approval_cancelled: ApprovalCancelledData;
  readonly error: ErrorData;
  readonly agent_message: Readonly<Record<string, unknown>>;
}

/** The `code` of an error. */
export type ErrorCode =
  | "INTERNAL_ERROR"
  | "INVALID_MESSAGE"
  | "VALIDATION_FAILED"
  | "INVALID_PATH"
  | "PROJECT_NESTING"
  | "PROJECT_EXISTS"
  | "PROJECT_NOT_FOUND"
  | "PROJECT_LIMIT"
  | "PROCESS_ACTIVE"
  | "PROCESS_NOT_FOUND"
  | "APPROVAL_NOT_FOUND"
  | "EXECUTION_TIMEOUT"
  | "EXECUTION_FAILED"
  | "CLAUDE_NOT_FOUND"
  | "TRUST_REQUIRED"
  | "RESOURCE_LIMIT"
  | "RATE_LIMITED"
  | "UNAUTHORIZED"
  | "FORBIDDEN"
  | "FILE_OPERATION";

/** Requests to send again when the connection ended before their reply came. */
export const REPEATABLE: ReadonlySet<string> = new Set([
  "project_list",
  "conversation_list",
  "agent_report",
  "get_messages",
  "session_list",
  "session_history",
  "execution_list",
  "watch",
  "path_complete",
  "path_inspect",
  "device_list",
  "health_check",
  "server_stats",
  "server_history",
  "server_overview",
]);

/** The permission modes for a device that is limited to some projects. */
export const LIMITED_MODES: ReadonlySet<string> = new Set([
  "default",
  "plan",
]);

/** Frames that are entries of a log when they have an offset. */
export type EntryType =
  | "agent_message"
  | "agent_partial"
  | "approval_cancelled"
  | "approval_requested"
  | "approval_resolved"
  | "error"
  | "execution_paused"
  | "process_killed"
  | "prompt"
  | "session_reset"
  | "session_resumed"
  | "terminal_turns";

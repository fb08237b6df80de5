// Made of the server's own types by `make generate`; do not edit.

/**
 * Make a directory a project. What its own settings have the CLI do counts as accepted from then on.
 *
 * `hash` (of `path_inspect`) accepts only what a person has seen: when the directory is in another state, the error is
 * `VALIDATION_FAILED`, with the `hash` of that in its details. Without it everything that is there is accepted.
 */
export interface ProjectCreate {
  readonly path: string;
  readonly hash?: string | null;
}

/** List all projects. */
export type ProjectList = Readonly<Record<string, never>>;

/**
 * Accept what the project's own settings have the CLI do, as it is in the state with this `hash` (`path_inspect`).
 *
 * Before each prompt the server compares the settings with what was accepted. While something is new or changed, the
 * prompts wait, with a `queue_hold` of the reason `trust`. When the directory is in another state than `hash`, nothing
 * is accepted, and the error is `VALIDATION_FAILED`, with the `hash` of that state in its details.
 */
export interface ProjectTrust {
  readonly hash: string;
  readonly project_id?: string | null;
}

/** Forget a project and its log; the directory itself is not touched. */
export interface ProjectDelete {
  readonly project_id?: string | null;
}

/**
 * Subscribe to a project, optionally with everything after `since`.
 *
 * With `large: "reference"` an entry of more than 16 KiB comes as a preview, with `size` and `cut` next to its
 * `data` (see `MessageData`), so that no frame is long under way on a slow link; requests for an approval come whole.
 */
export interface ProjectJoin {
  readonly project_id?: string | null;
  readonly since?: number | string | Since | null;
  readonly large?: "reference" | "whole";
}

/**
 * A place in the log that a client has seen up to and including.
 *
 * `timestamp` is that of the entry at `offset`, as its frame has it: another one shows that the log was put back to
 * an older state.
 */
export interface Since {
  readonly offset: number;
  readonly epoch?: string | null;
  readonly timestamp?: string | null;
}

/** Stop following a project. */
export interface ProjectLeave {
  readonly project_id?: string | null;
}

/**
 * Give the agent a prompt; it runs now or waits in the queue.
 *
 * `traceparent` (W3C Trace Context) makes the execution part of the client's trace; one that is
 * malformed is ignored.
 */
export interface Execute {
  readonly prompt: string;
  readonly project_id?: string | null;
  readonly options?: Options | null;
  readonly prompt_id?: string | null;
  readonly traceparent?: string | null;
}

/** What a client may choose for one execution. */
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
 * With `execution_id` only that one: when it has ended or another one runs, the error is `PROCESS_NOT_FOUND`. With
 * `hold_queue` the prompts that wait stay until `queue_resume`.
 */
export interface AgentKill {
  readonly project_id?: string | null;
  readonly execution_id?: string | null;
  readonly hold_queue?: boolean;
}

/**
 * Ask the agent to stop what it does; its session stays warm.
 *
 * `execution_id` and `hold_queue` as for `agent_kill`.
 */
export interface AgentInterrupt {
  readonly project_id?: string | null;
  readonly execution_id?: string | null;
  readonly hold_queue?: boolean;
}

/** Begin a fresh conversation with the next prompt. */
export interface AgentNewSession {
  readonly project_id?: string | null;
}

/**
 * Read a page of the log: the newest entries, those before `before`, or those after `since`.
 *
 * A page has at most `limit` entries and `max_bytes` of data, but one entry always; without `max_bytes` the bound
 * is 8 MiB. With `large: "reference"` an entry of more than 16 KiB is a preview, see `MessageData`; a page of one
 * entry without it fetches the whole.
 */
export interface GetMessages {
  readonly project_id?: string | null;
  readonly since?: number | string | Since | null;
  readonly before?: number | Since | null;
  readonly limit?: number;
  readonly direction?: "all" | "claude" | "client" | "server";
  readonly max_bytes?: number | null;
  readonly large?: "reference" | "whole";
}

/**
 * Answer a tool request of the agent; the first answer wins. `remember` allows for the rest of the session what the
 * request's `suggestions` say.
 */
export interface ApprovalRespond {
  readonly approval_id: string;
  readonly behavior: "allow" | "deny";
  readonly project_id?: string | null;
  readonly message?: string | null;
  readonly updated_input?: Readonly<Record<string, unknown>> | null;
  readonly remember?: boolean;
}

/** Change a prompt that still waits in the queue. */
export interface PromptEdit {
  readonly execution_id: string;
  readonly prompt: string;
  readonly project_id?: string | null;
}

/** Withdraw a prompt that still waits in the queue. */
export interface PromptCancel {
  readonly execution_id: string;
  readonly project_id?: string | null;
}

/** Let the prompts that wait go on, in order, after the queue was on hold; without a hold nothing changes. */
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

/** List the conversations of a project that can be resumed. */
export interface SessionList {
  readonly project_id?: string | null;
}

/** Continue an older conversation with the next prompt, or a copy of it (`fork`). */
export interface SessionResume {
  readonly session_id: string;
  readonly project_id?: string | null;
  readonly fork?: boolean;
}

/** List a project's executions with what they used, newest first; `before` is the last id of the page before. */
export interface ExecutionList {
  readonly project_id?: string | null;
  readonly limit?: number;
  readonly before?: string | null;
}

/**
 * Hear of the state and the approvals of all projects, joined or not; while `away`, nobody looks at this client.
 *
 * People are then notified as if it were not connected. Who asks again says anew whether somebody looks. With
 * `announce`, `incoming` is sent before large frames, for clients that see nothing of a frame until all of it arrived.
 */
export interface Watch {
  readonly away?: boolean;
  readonly announce?: boolean;
}

/** List the directories to which the path of a new project may go on; an empty path tells where to begin. */
export interface PathComplete {
  readonly path: string;
}

/**
 * Tell what a directory has the CLI do without asking, before it becomes a project or while it is one.
 *
 * That is hooks, MCP servers, rules and variables of its own settings. Files that none of `claude.setting_sources`
 * reads are left out. The reply has a page of them, from `offset` on.
 */
export interface PathInspect {
  readonly path: string;
  readonly offset?: number;
}

/** List the devices that may connect. */
export type DeviceList = Readonly<Record<string, never>>;

/** Call a device by another name. */
export interface DeviceRename {
  readonly device_id: string;
  readonly name: string;
}

/**
 * End a device's access: its connections are closed, its pairing codes end, its queued prompts are withdrawn.
 *
 * `kill` also kills what it runs. `paired` also revokes the devices that came in by its pairing codes, and by theirs.
 */
export interface DeviceRevoke {
  readonly device_id: string;
  readonly kill?: boolean;
  readonly paired?: boolean;
}

/**
 * Replace a device's token; the old one ends at once, and with it what `device_revoke` ends.
 *
 * A browser holds a cookie, which this turns into a token: it replaces its own by `POST /api/rotate`. `kill` also
 * kills what the device runs.
 */
export interface DeviceRotate {
  readonly device_id: string;
  readonly kill?: boolean;
}

/**
 * Get a code that lets one more device in, within five minutes.
 *
 * `name` is what it will be called (without, it says so itself), `view_only` lets it change nothing, and
 * of `projects` it sees only these.
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

/** Ask how the server is. */
export type HealthCheck = Readonly<Record<string, never>>;

/** Ask for figures, once or every `interval` seconds (0 stops). */
export interface ServerStats {
  readonly interval?: number | null;
}

/** Ask for the figures of the last `range` seconds, then for what is new, every `interval` seconds (0 stops). */
export interface ServerHistory {
  readonly range?: number;
  readonly interval?: number | null;
}

/** Ask for checks, limits, slow executions and the last errors, once or every `interval` seconds (0 stops). */
export interface ServerOverview {
  readonly interval?: number | null;
}

/**
 * A project as it is now. `path` is byte for byte as its creator gave it.
 *
 * `queue_hold` is null unless prompts wait and do not start.
 *
 * `state` is EXECUTING also while a subagent, or a turn that the agent began by itself, runs without a prompt;
 * `agent_interrupt` and `agent_kill` end these too. A command in the background (in `tasks`) does not make it
 * EXECUTING: it may run for ever. `permission_mode` is the one that holds in the agent's process, or what was chosen
 * for the next one. `session_title` is the first prompt of the conversation, cut.
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
}

/** What a project is doing, as clients see it. */
export type ProjectState = "ERROR" | "EXECUTING" | "IDLE";

/**
 * The prompts that wait do not start: `message` says why to a person, `since` is RFC 3339.
 *
 * A fault that is not the prompts' own holds the queue, and so does a client with `hold_queue`. The hold ends with
 * `queue_resume`, with a new `execute` (whose prompt goes behind those that wait), when no prompt waits any more, and
 * by itself when the directory (`directory`) or the CLI (`cli`) is back. `trust`: the project's own settings have the
 * CLI do something that nobody has accepted; it ends with `project_trust`, or when that is gone, and with neither of
 * the others.
 */
export interface QueueHoldData {
  readonly reason: HoldReason;
  readonly message: string;
  readonly since: string;
}

/** Why the queue of a project is on hold. */
export type HoldReason = "authentication" | "cli" | "conversation" | "credit" | "directory" | "interrupted" | "killed" | "network" | "overloaded" | "start" | "trust" | "usage_limit";

/**
 * Something that the agent runs next to its turns; `type` is the CLI's: `local_agent` is a subagent, `local_bash`
 * a command in the background.
 */
export interface BackgroundTaskData {
  readonly task_id: string;
  readonly type: string;
  readonly description: string;
}

/** Reply to `project_list`. */
export interface ProjectListData {
  readonly projects: readonly ProjectStateData[];
  readonly total: number;
}

/** A project that is no more. */
export interface ProjectDeletedData {
  readonly project_id: string;
}

/** Reply to `project_join`; beside the log it carries what still waits for somebody. */
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
 * `suggestions` is what `remember` adds to an allowance: the rule for this tool where the CLI suggests one, else all
 * that it suggests (such as the permission mode `acceptEdits`), which a client must show. `agent_id` names the
 * subagent that asks, absent for the main thread. A subagent may ask when no execution runs (`execution_id` is null).
 * The request is open until it is answered, the agent withdraws it, its turn ends, or its process is gone.
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
}

/** A prompt that waits; `position` counts from 1. */
export interface QueuedPrompt {
  readonly execution_id: string;
  readonly prompt: string;
  readonly position: number;
  readonly created_at: string;
}

/** The message that is being written, as far as it is known: its text and its thinking. */
export interface PartialData {
  readonly text: string;
  readonly thinking: string;
}

/** Reply to `project_leave`. */
export interface ProjectLeaveData {
  readonly project_id: string;
}

/** Reply to `execute`; `position` is 0 for a prompt that runs, else its place in the queue from 1. */
export interface ExecuteData {
  readonly project_id: string;
  readonly execution_id: string;
  readonly status: "queued" | "started";
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
 * Of a large one, where that was asked for, `message` is a preview: an object of the same shape, with long strings,
 * arrays and objects cut at their end. `size` is then the bytes of the whole, and `cut` says where something is
 * missing, as JSON pointers (RFC 6901; "" is everything). Frames of entries have the two next to their `data`.
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

/** Where the page lies in the log. `has_more` is about the direction of reading. */
export interface MessagesMetadata {
  readonly epoch: string;
  readonly first_offset: number;
  readonly last_offset: number;
  readonly has_more: boolean;
}

/**
 * A device answered the request; `by` names it.
 *
 * `updated_input` is what the tool is called with instead of the request's `input`, when the device changed it.
 */
export interface ApprovalResolvedData {
  readonly approval_id: string;
  readonly behavior: "allow" | "deny";
  readonly by: string;
  readonly message?: string | null;
  readonly updated_input?: Readonly<Record<string, unknown>>;
}

/** Reply to `prompt_edit` and `prompt_cancel`. */
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

/** Reply to `session_list`, newest first. */
export interface SessionListData {
  readonly project_id: string;
  readonly sessions: readonly SessionData[];
}

/** A conversation that can be resumed; `title` is the beginning of its first prompt. */
export interface SessionData {
  readonly session_id: string;
  readonly title: string;
  readonly created_at: string;
  readonly last_active: string;
  readonly current: boolean;
}

/** Reply to `session_resume`: the conversation that the next prompt continues. */
export interface SessionResumeData {
  readonly project_id: string;
  readonly session_id: string;
  readonly fork: boolean;
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
 * most; `cost_usd` is the sum over `usage`. `incomplete`: it ended before the CLI told its figures, so that these
 * are a lower bound, without dollars.
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

/** The life of an execution. The last five are final. */
export type ExecutionStatus = "cancelled" | "error" | "killed" | "queued" | "running" | "starting" | "success" | "timeout";

/** What was used of one model. The four counts of tokens do not overlap; the cost is the CLI's own reckoning. */
export interface UsageData {
  readonly model: string;
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly cache_read_tokens: number;
  readonly cache_creation_tokens: number;
  readonly cost_usd: number;
}

/**
 * Reply to `watch`: how things are now.
 *
 * From then on the connection gets each `project_state`, `approval_requested`, `approval_resolved` and
 * `approval_cancelled` of the projects that it has not joined, too. Ask again after leaving a project
 * whose entries had not all come yet. To a connection that could not take all of these a `watch` without a
 * `request_id` comes instead, as soon as it can: how things are then, in place of what was known.
 */
export interface WatchData {
  readonly projects: readonly ProjectStateData[];
  readonly approvals: readonly WaitingApproval[];
}

/** A tool request that waits, and whose it is. */
export interface WaitingApproval {
  readonly project_id: string;
  readonly approval: ApprovalRequestedData;
}

/** Reply to `path_complete`; nothing outside `projects.allowed_roots` is told. `truncated`: there are more. */
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
 * `claims`: a page of them, from the `offset` of the request on: those that nobody has accepted for this project
 * first, each part with programs first and rules last. `total`: how many there are; `counts`: how many of each kind;
 * `new`: how many nobody has accepted, which is all for a directory that is no project. `hash` names this state of the
 * directory, for `project_create` and `project_trust`: another one on a later page means that it has changed.
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
 * Something that a directory's own settings have the CLI do without asking.
 *
 * Attributes:
 * file: relative to the directory; the CLI also reads some above it.
 * text: for the user, on one line.
 */
export interface Claim {
  readonly file: string;
  readonly kind: ClaimKind;
  readonly text: string;
}

/** What a directory's own settings are for. */
export type ClaimKind = "program" | "rule" | "server" | "unknown" | "variable";

/**
 * Reply to `device_list`, the oldest first. `auth`: false where everybody is let in without being one of them.
 *
 * `pairings`: the codes by which further devices may come in now.
 */
export interface DeviceListData {
  readonly devices: readonly DeviceData[];
  readonly auth: boolean;
  readonly pairings: readonly PairingData[];
}

/**
 * A device that may connect: how often it does now, and when and where it last did.
 *
 * `view_only`: it changes nothing. `projects`: all that it sees; null for everything. `current`: it is the one that
 * asks. `paired_by`: the device whose pairing code let it in. `queued`: its prompts that wait; `running`: its
 * executions that run. `credential`: `token` for programs, `cookie` for browsers, `either` for a device from before
 * keys that has not come back yet. `bound`: its cookie counts only together with a key of the browser.
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

/** An execution that runs. */
export interface RunningData {
  readonly project_id: string;
  readonly execution_id: string;
}

/** How a device sends its secret; a cookie's value is not accepted as a bearer token, nor the reverse. */
export type Credential = "cookie" | "either" | "token";

/**
 * A pairing code that was not redeemed yet; the code itself is not stored.
 *
 * `name`, `view_only`, `projects`: what the device will be. `device_id`: the device that made the code; null for the
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
 * `revoked`: the devices that lost their access, this one first. `withdrawn`: how many of their queued prompts were
 * withdrawn. `running`: their executions that go on, unless `kill` was asked for; `agent_kill` ends them.
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
 * Reply to `pairing_start`. Each of `urls` leads to a page that takes the code, the best first.
 *
 * `qr` has each of them as a QR code: a line of `0` (light) and `1` (dark) for each row, without a quiet zone.
 * `expires_in`: seconds until `expires_at`, for a client whose clock is wrong. `id` names it for `pairing_cancel`.
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

/** Connections now, and how many there may be. */
export interface ConnectionFigures {
  readonly active: number;
  readonly limit: number;
}

/** Projects now, how many there may be, and how many execute. */
export interface ProjectFigures {
  readonly count: number;
  readonly limit: number;
  readonly executing: number;
}

/** What the server uses; the disk is the one of its data directory. */
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

/** What the executions of today have cost, and may (0: no limit), in US dollars; the day is the server's. */
export interface CostFigures {
  readonly today_usd: number;
  readonly limit_usd: number;
}

/**
 * Reply to `server_history`, and its pushes, which hold the points that came since.
 *
 * `times` are in milliseconds since the Unix epoch, `step` seconds apart; `series` holds for each name as many
 * values as there are times, null where there was nothing to tell. A series of `errors` that is missing is 0
 * throughout. The history begins with the server: another `began` than before means that it begins anew.
 */
export interface ServerHistoryData {
  readonly began: string;
  readonly step: number;
  readonly times: readonly number[];
  readonly series: Readonly<Record<string, readonly (number | null)[]>>;
}

/** Reply to `server_overview`, and its pushes; `uptime` in seconds, a `runbook` is /docs/runbooks/NAME. */
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
}

/** A health check, and since when it has been so (null: it has not been done yet). */
export interface CheckStateData {
  readonly name: string;
  readonly status: "healthy" | "unhealthy" | "warning";
  readonly message: string | null;
  readonly since: string | null;
  readonly runbook: string | null;
}

/** A limit (0: none) and how much of it is used, as the metrics `limit` and `limit_usage` tell. */
export interface LimitData {
  readonly name: string;
  readonly usage: number;
  readonly limit: number;
  readonly runbook: string | null;
}

/** An execution that runs, or one of the slowest that ended; `waiting`: it waits for an approval now. */
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
}

/** An error, how often it came since the server started, and when and for which request it came last. */
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

/** The first frame to a page whose cookie is bound to a key: `nonce` is to be signed, see *In a browser*. */
export interface ChallengeData {
  readonly nonce: string;
}

/** Reply to `prove`: the page is in as this device, and may send requests. */
export interface ProvedData {
  readonly device_id: string;
}

/** The next `frames` frames have `bytes` bytes together, more than 16 KiB; only for `watch` with `announce`. */
export interface IncomingData {
  readonly bytes: number;
  readonly frames: number;
}

/** How many connections follow the project now (`project_joined`, `project_left`). */
export interface SubscribersData {
  readonly project_id: string;
  readonly subscribers: number;
}

/** An entry: a prompt was given to the agent. */
export interface PromptData {
  readonly execution_id: string;
  readonly prompt: string;
  readonly by: string;
  readonly prompt_id?: string | null;
}

/** The prompts that wait, in the order in which they will run; `queue_hold` as in `project_state`. */
export interface QueueStateData {
  readonly queue: readonly QueuedPrompt[];
  readonly queue_hold?: QueueHoldData | null;
}

/** The next prompt continues this conversation, or with `fork` a copy of it; `title` is its first prompt, cut. */
export interface SessionResumedData {
  readonly session_id: string;
  readonly fork: boolean;
  readonly title: string;
}

/** What the agent had written of a message when its execution ended, so that the complete line never came. */
export interface AgentPartialData {
  readonly text: string;
  readonly thinking: string;
}

/** The request was withdrawn: by the agent, or because its turn or the agent's process ended. */
export interface ApprovalCancelledData {
  readonly approval_id: string;
  readonly reason: string;
}

/** Something went wrong; `message` is for a person. */
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
  readonly project_join: ProjectJoin;
  readonly project_leave: ProjectLeave;
  readonly execute: Execute;
  readonly agent_kill: AgentKill;
  readonly agent_interrupt: AgentInterrupt;
  readonly agent_new_session: AgentNewSession;
  readonly get_messages: GetMessages;
  readonly approval_respond: ApprovalRespond;
  readonly prompt_edit: PromptEdit;
  readonly prompt_cancel: PromptCancel;
  readonly queue_resume: QueueResume;
  readonly set_model: SetModel;
  readonly set_permission_mode: SetPermissionMode;
  readonly session_list: SessionList;
  readonly session_resume: SessionResume;
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
  readonly project_join: ProjectJoinData;
  readonly project_leave: ProjectLeaveData;
  readonly execute: ExecuteData;
  readonly agent_kill: AgentKillData;
  readonly agent_interrupt: AgentInterruptData;
  readonly agent_new_session: SessionResetData;
  readonly get_messages: MessagesData;
  readonly approval_respond: ApprovalResolvedData;
  readonly prompt_edit: PromptChangedData;
  readonly prompt_cancel: PromptChangedData;
  readonly queue_resume: QueueResumeData;
  readonly set_model: SetModelData;
  readonly set_permission_mode: SetPermissionModeData;
  readonly session_list: SessionListData;
  readonly session_resume: SessionResumeData;
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

/** The data of what the server says by its type; `agent_message` is the CLI's line. */
export interface Pushes {
  readonly project_state: ProjectStateData;
  readonly project_list_response: ProjectListData;
  readonly project_deleted: ProjectDeletedData;
  readonly project_join: ProjectJoinData;
  readonly project_leave: ProjectLeaveData;
  readonly execute: ExecuteData;
  readonly agent_kill: AgentKillData;
  readonly agent_interrupt: AgentInterruptData;
  readonly agent_new_session: SessionResetData;
  readonly messages_response: MessagesData;
  readonly approval_resolved: ApprovalResolvedData;
  readonly prompt_edit: PromptChangedData;
  readonly prompt_cancel: PromptChangedData;
  readonly queue_resume: QueueResumeData;
  readonly set_model: SetModelData;
  readonly set_permission_mode: SetPermissionModeData;
  readonly session_list: SessionListData;
  readonly session_resume: SessionResumeData;
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
  readonly project_joined: SubscribersData;
  readonly project_left: SubscribersData;
  readonly prompt: PromptData;
  readonly queue_state: QueueStateData;
  readonly process_killed: AgentKillData;
  readonly session_reset: SessionResetData;
  readonly session_resumed: SessionResumedData;
  readonly agent_partial: AgentPartialData;
  readonly approval_requested: ApprovalRequestedData;
  readonly approval_cancelled: ApprovalCancelledData;
  readonly error: ErrorData;
  readonly agent_message: Readonly<Record<string, unknown>>;
}

/** What `code` of an error may be. */
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
export const REPEATABLE: ReadonlySet<string> = new Set<keyof Requests>([
  "project_list",
  "get_messages",
  "session_list",
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

/** Frames that are entries of a log when they have an offset. */
export type EntryType =
  | "agent_message"
  | "agent_partial"
  | "approval_cancelled"
  | "approval_requested"
  | "approval_resolved"
  | "error"
  | "process_killed"
  | "prompt"
  | "session_reset"
  | "session_resumed";

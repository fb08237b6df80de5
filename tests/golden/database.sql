PRAGMA user_version = 11;

CREATE TABLE approval (
    id TEXT NOT NULL,
    conversation_id TEXT NOT NULL,
    execution_id TEXT,
    request_id TEXT NOT NULL,
    request BLOB NOT NULL,
    status TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    resolved_at INTEGER,
    "by" TEXT,
    answer BLOB,
    delivered INTEGER NOT NULL, created_tick INTEGER,
    PRIMARY KEY (conversation_id, id)
) STRICT;

CREATE TABLE conversation (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    path BLOB NOT NULL,
    real_path BLOB NOT NULL,
    name BLOB NOT NULL,
    state TEXT NOT NULL,
    session_id TEXT,
    epoch TEXT NOT NULL,
    head INTEGER NOT NULL,
    first INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    last_active INTEGER NOT NULL,
    model TEXT,
    permission_mode TEXT,
    fork INTEGER NOT NULL,
    log_bytes INTEGER NOT NULL DEFAULT 0,
    queue_hold BLOB NOT NULL DEFAULT x'6e756c6c',
    title TEXT,
    archived INTEGER NOT NULL DEFAULT 0,
    worktree BLOB NOT NULL DEFAULT x'6e756c6c'
, transcript BLOB NOT NULL DEFAULT x'6e756c6c', last_line BLOB NOT NULL DEFAULT x'6e756c6c') STRICT;

CREATE TABLE "deleted_conversation" (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    swept INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE device (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    token_hash TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    last_seen INTEGER
, last_address TEXT, view_only INTEGER NOT NULL DEFAULT 0, projects BLOB NOT NULL DEFAULT x'6e756c6c', generation INTEGER NOT NULL DEFAULT 0, paired_by TEXT, credential TEXT NOT NULL DEFAULT 'either', public_key BLOB) STRICT;

CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    timestamp INTEGER NOT NULL,
    direction TEXT NOT NULL,
    type TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;

CREATE TABLE execution (
    id TEXT PRIMARY KEY,
    conversation_id TEXT NOT NULL,
    prompt_id TEXT,
    prompt TEXT NOT NULL,
    options BLOB NOT NULL,
    status TEXT NOT NULL,
    position INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    spool_offset INTEGER,
    waited_ms INTEGER NOT NULL,
    "by" TEXT NOT NULL
, correlation_id TEXT NOT NULL DEFAULT '', traceparent TEXT, code TEXT, session_id TEXT, model TEXT, usage BLOB NOT NULL DEFAULT x'5b5d', incomplete INTEGER NOT NULL DEFAULT 0, stop TEXT, started_tick INTEGER, device_id TEXT, generation INTEGER NOT NULL DEFAULT 0, paused_for TEXT, paused_at INTEGER, continuations INTEGER NOT NULL DEFAULT 0) STRICT;

CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;

CREATE TABLE pairing (
    code_hash TEXT PRIMARY KEY,
    name TEXT,
    view_only INTEGER NOT NULL,
    projects BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
, id TEXT NOT NULL DEFAULT '', device_id TEXT, generation INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;

CREATE TABLE process (
    id TEXT PRIMARY KEY,
    conversation_id TEXT NOT NULL,
    pid INTEGER NOT NULL,
    start_time TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    consumed INTEGER NOT NULL,
    options BLOB NOT NULL,
    started_at INTEGER NOT NULL
, account BLOB NOT NULL DEFAULT x'7b7d', claims TEXT NOT NULL DEFAULT '') STRICT;

CREATE TABLE session (
    id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_active INTEGER NOT NULL,
    title TEXT NOT NULL,
    PRIMARY KEY (project_id, id)
) STRICT;

CREATE TABLE spending (
    day TEXT NOT NULL,
    project_id TEXT NOT NULL,
    project_name BLOB NOT NULL,
    model TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cache_creation_tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    executions INTEGER NOT NULL,
    PRIMARY KEY (day, project_id, model)
) STRICT, WITHOUT ROWID;

CREATE TABLE trust (
    project_id TEXT PRIMARY KEY,
    digests BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX approval_open ON approval(conversation_id, created_at) WHERE (status = 'pending' OR (status IN ('allow', 'deny') AND delivered = 0));

CREATE INDEX approval_resolved ON approval(conversation_id, resolved_at);

CREATE UNIQUE INDEX conversation_real_path ON conversation(real_path) WHERE instr(id, '.') = 0;

CREATE INDEX entry_direction ON entry(direction, id) WHERE direction <> 'claude';

CREATE INDEX execution_open ON execution(conversation_id, position) WHERE status IN ('queued', 'starting', 'running', 'steering', 'waiting', 'interrupted');

CREATE INDEX execution_position ON execution(conversation_id, position);

CREATE UNIQUE INDEX execution_prompt ON execution(conversation_id, prompt_id) WHERE prompt_id IS NOT NULL;

CREATE INDEX process_project ON process(conversation_id, started_at);

CREATE INDEX session_last_active ON session(project_id, last_active);

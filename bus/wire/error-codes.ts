/**
 * Every error code: its family, its cause and its cure; docs/errors.md is generated from here. A retryable error may succeed later as it is; a
 * terminal one never does; canceled is terminal and nobody's fault.
 */
export type Family = 'retryable' | 'terminal' | 'canceled'

interface Row {
  readonly family: Family
  readonly cause: string
  readonly cure: string
}

export const errorCodes = {
  // the broker and the connection to it
  broker_unreachable: row(
    'retryable',
    'No NATS server answers at the address.',
    'Start one with "kaos up", or name a server that runs with NATS_URL or --context.',
  ),
  broker_too_old: row(
    'terminal',
    'The NATS server is older than 2.12.',
    'Upgrade nats-server to 2.12 or newer; 2.15.2 is what is tested.',
  ),
  broker_not_found: row(
    'terminal',
    'No nats-server could be found or fetched.',
    'Install nats-server 2.12 or newer on PATH, or set NATS_URL.',
  ),
  broker_failed: row(
    'terminal',
    'The embedded nats-server ended or never became ready.',
    'Read its log, whose path the message names; free the port or the disk it needs.',
  ),
  jetstream_disabled: row(
    'terminal',
    'The NATS server or account has no JetStream.',
    'Start nats-server with -js, or enable JetStream for the account.',
  ),
  access_denied: row(
    'terminal',
    'The NATS server refuses this identity.',
    'Check NATS_CREDS, NATS_NKEY, NATS_USER and NATS_PASSWORD, or the context.',
  ),
  stream_missing: row(
    'retryable',
    'No stream takes this subject: the agent or tool server was never declared here.',
    'Declare it: "kaos up -f FILE", or kubectl apply.',
  ),
  stream_refused: row(
    'retryable',
    'The NATS server refuses to create, change or remove a stream or consumer.',
    "The server's words are in the message: room in its account, enough servers for the replicas, or a stream of that name that is not ours.",
  ),
  publish_timeout: row(
    'retryable',
    'The server did not acknowledge the message in time.',
    'Look at the server: its leader, its disk, its load. The message is sent again.',
  ),
  publish_refused: row(
    'retryable',
    'The server refused to store the message.',
    "The server's words are in the message; a full stream needs room.",
  ),
  queue_full: row(
    'retryable',
    'Too many messages are waiting for an acknowledgement.',
    'Wait; if it lasts, the broker is slower than the load.',
  ),
  door_full: row(
    'retryable',
    "The agent's door holds as many unread tasks as it may.",
    'Send again later, or add replicas of the agent.',
  ),
  read_failed: row('retryable', 'A read from the journal or another stream failed.', 'Look at the server; the read is repeated.'),
  already_running: row(
    'terminal',
    'Another "kaos up" runs in this folder.',
    'Use it, or end it first; its pid is in the message.',
  ),
  // messages
  bad_message: row('terminal', 'A message cannot be read.', 'Correct the field that the message names.'),
  bad_name: row(
    'terminal',
    'A name is not a DNS label of at most 40 characters.',
    'Use lower-case letters, digits and "-", at most 40 characters.',
  ),
  unsupported_version: row(
    'terminal',
    'The message has a higher version than this program reads.',
    'Upgrade kaos-actors on the side that refused it.',
  ),
  payload_too_large: row('terminal', 'A body is larger than its limit.', 'Send less, or send a reference to where the body is.'),
  key_conflict: row(
    'terminal',
    'This message id was used before by another sender or with another input.',
    'Choose a new id; to repeat a task send the same input.',
  ),
  unknown_effect: row(
    'terminal',
    'A reply names an effect that no journal knows.',
    'The task was removed or the reply is forged; nothing to do for the task.',
  ),
  expired: row(
    'terminal',
    'It is older than records are kept: mail that waited too long, or a trace that has been removed.',
    'Send the task again under a new id. To keep records longer set retention.days of the chart, or KAOS_RETENTION_DAYS for "kaos up".',
  ),
  unknown_agent: row(
    'terminal',
    'No agent of this name is declared.',
    'Check the name against your manifests; "kaos up" reads them when it starts.',
  ),
  unknown_task: row(
    'terminal',
    'No task of this id is recorded, or none any more.',
    'List the tasks with "kaos task list". Those that ended longer ago than records are kept (30 days by default) are gone.',
  ),
  unknown_trace: row(
    'terminal',
    'No trace of this id is recorded, or none any more.',
    'List the traces with "kaos trace list". Those that ended longer ago than records are kept (30 days by default) are gone.',
  ),
  // the HTTP door
  not_ready: row(
    'retryable',
    'The process that serves HTTP still starts, or is about to end.',
    'Ask again in a moment, with the same Idempotency-Key if the first request had one.',
  ),
  result_timeout: row(
    'retryable',
    'The task has not ended in the time that a request is waited for.',
    'The work goes on: repeat the request with the Idempotency-Key of the answer, or use "kaos task get".',
  ),
  stream_broken: row(
    'retryable',
    'The model was asked again after a part of its answer had been streamed, and answered otherwise.',
    'Repeat the request with the Idempotency-Key of the answer: what was answered in the end is stored.',
  ),
  // the journal
  journal_gap: row(
    'terminal',
    'A journal lacks an entry.',
    'The record was damaged outside the system; restore the stream or drop the task.',
  ),
  journal_damaged: row(
    'terminal',
    'A journal entry does not match its seal.',
    'The record was changed after it was written; it proves nothing any more.',
  ),
  body_missing: row(
    'terminal',
    'A body that an entry refers to is not in the journal.',
    'It was purged or never arrived; the trace cannot be re-executed.',
  ),
  no_progress: row(
    'retryable',
    'The journal could not be extended in time.',
    'Look at the broker; the message is delivered again.',
  ),
  // a task's outcome
  model_failed: row(
    'terminal',
    'The model did not answer, also not after retries.',
    'Check the endpoint, the key and the model name in the ModelAPI.',
  ),
  model_without_tools: row(
    'terminal',
    'The endpoint says that this model takes no tools.',
    'Set config.toolCallMode to auto or string, or use a model that takes tools.',
  ),
  model_timeout: row(
    'terminal',
    'The model took longer than its limit.',
    'Raise config.modelSettings.timeoutSeconds, or use a faster model.',
  ),
  model_bad_answer: row(
    'terminal',
    "The model's answer cannot be read.",
    'Check that the endpoint speaks the OpenAI chat completions protocol.',
  ),
  step_limit: row(
    'terminal',
    'The agent used all its model rounds.',
    'Raise config.reasoningLoopMaxSteps, or give the agent a smaller task.',
  ),
  tool_call_limit: row(
    'terminal',
    'The task used all its tool calls.',
    "Raise config.taskConfig.maxToolCalls or the task's limits.toolCalls.",
  ),
  token_limit: row('terminal', 'The task used all its tokens.', "Raise the task's limits.tokens."),
  time_limit: row(
    'terminal',
    'The task ran past its time.',
    "Raise config.taskConfig.maxRuntimeSeconds or the task's limits.seconds.",
  ),
  depth_limit: row('terminal', 'Delegations are nested deeper than allowed.', 'Flatten the hierarchy, or raise limits.depth.'),
  fan_out_limit: row(
    'terminal',
    'One reply asked for more calls than allowed.',
    'Tell the model to do less at once, or raise limits.fanOut.',
  ),
  delegation_cycle: row(
    'terminal',
    'A delegation would reach an agent that already works on this task.',
    "Remove one of the two from the other's agentNetwork.access.",
  ),
  undeclared: row(
    'terminal',
    'The agent called something that its declaration does not name.',
    'Add the server to mcpServers or the peer to agentNetwork.access.',
  ),
  unknown_tool: row(
    'terminal',
    'The model called a tool that does not exist.',
    'The model is told; check the tool list with "kaos trace show".',
  ),
  bad_arguments: row('terminal', "The model's arguments for a call cannot be read.", 'The model is told and may try again.'),
  tool_failed: row('terminal', 'A tool answered with an error.', "The model is told; look at the tool server's log."),
  tool_timeout: row('terminal', 'A tool took longer than its limit.', "Raise the tool's time-out, or make it faster."),
  tool_server_lost: row(
    'terminal',
    'The MCP server ended or cannot be reached.',
    'Look at its command or URL in the MCPServer manifest.',
  ),
  indeterminate: row(
    'terminal',
    'A tool server died while the tool ran, and the tool may not be run twice.',
    'Check by hand whether it took effect; mark safe tools idempotent or read-only.',
  ),
  tool_module: row(
    'terminal',
    'A file with tools of your own cannot be used.',
    'Correct what the message names: the file exports tools made with tool({ description, input, run }), and input is a zod 4 object.',
  ),
  tool_list_missing: row(
    'retryable',
    'A tool server of the agent has not announced its tools.',
    'Start it; its log says why it cannot list them.',
  ),
  machine_failed: row(
    'terminal',
    'The machine threw while it decided.',
    'Correct the machine; the entry that failed is in the trace.',
  ),
  machine_rejected: row('terminal', 'The machine ended in a final state with the tag "rejected".', 'Its output says why.'),
  machine_contract: row(
    'terminal',
    'The machine uses something that a durable actor cannot.',
    'The message says what to write instead.',
  ),
  machine_timer_unsupported: row(
    'terminal',
    'The machine waits for the clock, and there are no durable timers yet.',
    'Wait for an effect or a message instead.',
  ),
  machine_file: row(
    'terminal',
    'The file of a machine cannot be loaded.',
    'Correct the file that the message names: its default export is the machine.',
  ),
  machine_impure: row(
    'terminal',
    'The machine decided the same input twice and differently.',
    'Move clock, randomness and I/O into an effect, and change the context through assign alone.',
  ),
  effect_failed: row(
    'terminal',
    'A local effect of a machine threw.',
    'The message is its own; the machine may handle it in onError.',
  ),
  span_name: row(
    'terminal',
    'The name that span(name, run) was given is no text of 1 to 128 characters.',
    'Name what is done, in a few words that are the same each time.',
  ),
  effect_timeout: row(
    'terminal',
    'A local effect did not end in time.',
    'Make it faster, or give it more time with timeoutSeconds.',
  ),
  machine_changed: row(
    'retryable',
    'The journal was written by other machine code and does not fold any more.',
    'Run the code that began the task until it has ended; "kaos replay" shows the entry that differs and how.',
  ),
  agent_failed: row('terminal', 'The agent that was delegated to failed.', 'Its own outcome, in the same trace, says why.'),
  canceled: row('canceled', 'The task was canceled.', 'Nothing to do.'),
  aborted: row('canceled', 'The work was stopped because its result is not needed any more.', 'Nothing to do.'),
  poison: row(
    'terminal',
    'A message failed again and again without progress.',
    'The dead letter says why; correct it and redrive.',
  ),
  // replay
  replay_network: row(
    'terminal',
    'Something tried to reach the network during a replay.',
    'Move the work into an effect, so that the record can answer it.',
  ),
  // the Kubernetes cluster
  cluster_settings: row(
    'terminal',
    'No Kubernetes cluster is named, or its address or credentials cannot be used.',
    'Set KUBECONFIG to a working kubeconfig, or run in a pod whose ServiceAccount token is mounted.',
  ),
  cluster_unreachable: row(
    'retryable',
    'The Kubernetes API server does not answer, or not in time.',
    'Look at the API server and the network to it; everything is tried again.',
  ),
  cluster_busy: row(
    'retryable',
    'The Kubernetes API server asks to try again: too many requests, a conflict with another writer, or trouble of its own.',
    'Nothing, if it passes; if it lasts, look at the API server.',
  ),
  cluster_denied: row(
    'terminal',
    'The Kubernetes API server does not let this identity do this.',
    'Grant the verb that the message names to the ServiceAccount; the chart has the whole list.',
  ),
  cluster_refused: row(
    'terminal',
    'The Kubernetes API server does not accept the request.',
    'Correct the field that the message names.',
  ),
  lease_lost: row(
    'terminal',
    'This operator is not the leader any more.',
    'Nothing: it ends and starts again as a follower, another one leads.',
  ),
  rival_operator: row(
    'terminal',
    "Another operator, KAOS's own or that of another release, keeps the same resources: each would undo what the other writes.",
    'Scale the Deployment that the message names to zero, or give each operator namespaces of its own; resources and definitions stay.',
  ),
  bad_setting: row(
    'terminal',
    'An environment variable or a NATS context cannot be understood.',
    'Correct the variable or field that the message names.',
  ),
  bad_script: row('terminal', 'A script of the offline model cannot be understood.', 'Correct the lines that the message names.'),
  folder_unusable: row('terminal', 'The folder cannot be written to.', 'Run kaos in a folder where it may write.'),
  program_missing: row(
    'terminal',
    'A program that the command runs is not on PATH.',
    'Install it from where the message says, and give the command again.',
  ),
  program_failed: row(
    'terminal',
    'A program that the command runs ended with an error.',
    'Correct what it says above, and give the command again: what is done already stays.',
  ),
  port_taken: row('terminal', 'The address cannot be listened on.', 'Choose another port, or end what uses it.'),
  usage: row('terminal', 'The command line cannot be understood.', 'See --help.'),
  internal: row('terminal', 'A defect in kaos-actors.', 'Please report it with the message and the trace.'),
} as const satisfies Record<string, Row>

export type ErrorCode = keyof typeof errorCodes

function row(family: Family, cause: string, cure: string): Row {
  return { family, cause, cure }
}

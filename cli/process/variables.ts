/**
 * Every environment variable that is read, with what it means and what goes before it: the one home of this list. A test holds it against the
 * source. Those of OpenTelemetry stand in `telemetry/settings.ts`.
 */

export interface Variable {
  /** A part in `<>` stands for a name of yours. */
  readonly name: string
  readonly meaning: string
  /** What counts when it is not set, or empty. */
  readonly absent: string
  readonly group: 'broker' | 'model' | 'output' | 'telemetry' | 'place' | 'test'
}

export const VARIABLES: readonly Variable[] = [
  {
    group: 'broker',
    name: 'NATS_URL',
    meaning: 'addresses of the broker, with commas between',
    absent: 'the context, else the `kaos up` of this folder; `kaos up` starts one',
  },
  { group: 'broker', name: 'NATS_CONTEXT', meaning: 'a context of the `nats` command, by its name', absent: 'none' },
  { group: 'broker', name: 'NATS_CREDS', meaning: 'credentials file of the user', absent: 'that of the context' },
  { group: 'broker', name: 'NATS_NKEY', meaning: 'file with the seed of an nkey, or the seed', absent: 'that of the context' },
  { group: 'broker', name: 'NATS_JWT', meaning: 'user JWT', absent: 'that of the context' },
  { group: 'broker', name: 'NATS_SEED', meaning: 'seed that belongs to `NATS_JWT`', absent: 'none' },
  { group: 'broker', name: 'NATS_USER', meaning: 'user', absent: 'that of the context' },
  { group: 'broker', name: 'NATS_PASSWORD', meaning: 'password of `NATS_USER`, or of the user of the context', absent: 'none' },
  { group: 'broker', name: 'NATS_TOKEN', meaning: 'token', absent: 'that of the context' },
  {
    group: 'broker',
    name: 'NATS_CA',
    meaning: "PEM file of the authorities that sign the server's certificate",
    absent: 'those of the system',
  },
  { group: 'broker', name: 'NATS_CERT', meaning: 'PEM file of a client certificate; together with `NATS_KEY`', absent: 'none' },
  { group: 'broker', name: 'NATS_KEY', meaning: 'PEM file of its key', absent: 'none' },
  {
    group: 'model',
    name: 'MODEL_API_URL',
    meaning: 'one OpenAI-compatible endpoint for all agents, whatever the manifests say',
    absent: 'as the ModelAPI says',
  },
  { group: 'model', name: 'MODEL_NAME', meaning: 'model at `MODEL_API_URL`', absent: 'that of the agent' },
  { group: 'model', name: 'MODEL_API_KEY', meaning: 'key for `MODEL_API_URL`', absent: 'none' },
  {
    group: 'model',
    name: 'OPENAI_API_KEY',
    meaning: 'key for agents whose ModelAPI names no address',
    absent: 'an Ollama on this machine, else the offline model',
  },
  { group: 'model', name: 'OPENAI_BASE_URL', meaning: 'where it is valid', absent: '`https://api.openai.com/v1`' },
  { group: 'model', name: 'OPENAI_MODEL', meaning: 'model there', absent: 'that of the agent' },
  {
    group: 'model',
    name: 'KAOS_SECRET_<NAME>_<KEY>',
    meaning: 'a key that a ModelAPI takes from a secret or config map, in upper case with `_` for all else',
    absent: 'the file `.kaos/secrets/<name>/<key>`',
  },
  {
    group: 'output',
    name: 'LOG_LEVEL',
    meaning: 'TRACE, DEBUG, INFO, WARNING or ERROR; the log goes to stderr',
    absent: '`AGENT_LOG_LEVEL`, else INFO; ERROR for commands that end by themselves',
  },
  { group: 'output', name: 'AGENT_LOG_LEVEL', meaning: 'the same under the name that KAOS has', absent: 'INFO' },
  { group: 'output', name: 'NO_COLOR', meaning: 'set to anything: no colours', absent: 'colours on a terminal' },
  {
    group: 'telemetry',
    name: 'KAOS_TRACE_URL_TEMPLATE',
    meaning:
      'link to a trace in your backend, shown by `kaos trace show` and `kaos task send`: a URL with `{trace_id}`, and `{task}` if you like',
    absent: 'no link',
  },
  {
    group: 'telemetry',
    name: 'KAOS_BAGGAGE_KEYS',
    meaning:
      'keys of W3C baggage, with commas between, that models and MCP servers are sent; between agents all of it is handed on',
    absent: 'none of it leaves',
  },
  {
    group: 'telemetry',
    name: 'TRACEPARENT',
    meaning: 'W3C trace context of who runs `kaos task send`, as CI systems set it: the task becomes a part of that trace',
    absent: 'a trace that follows from the id of the task',
  },
  { group: 'telemetry', name: 'TRACESTATE', meaning: 'W3C tracestate that belongs to `TRACEPARENT`', absent: 'none' },
  { group: 'telemetry', name: 'BAGGAGE', meaning: 'W3C baggage that the task is sent with', absent: 'none' },
  {
    group: 'place',
    name: 'XDG_CACHE_HOME',
    meaning: 'folder of `kaos/`, where a fetched nats-server is kept; absolute',
    absent: '`~/.cache`',
  },
  { group: 'place', name: 'XDG_CONFIG_HOME', meaning: 'folder of `nats/context/`', absent: '`~/.config`' },
  { group: 'place', name: 'HOME', meaning: "the user's folder", absent: 'as the system says' },
  {
    group: 'place',
    name: 'PATH',
    meaning: 'where nats-server, go and the commands of tool servers are looked for',
    absent: 'nowhere',
  },
  { group: 'place', name: 'HTTPS_PROXY', meaning: 'proxy for fetching nats-server; `https_proxy` goes before', absent: 'none' },
  { group: 'place', name: 'HTTP_PROXY', meaning: 'the same for http; `http_proxy` goes before', absent: 'none' },
  { group: 'place', name: 'NO_PROXY', meaning: 'hosts that need no proxy; `no_proxy` goes before', absent: 'none' },
  {
    group: 'place',
    name: 'GOTOOLCHAIN',
    meaning: 'toolchain with which go builds nats-server, where it cannot be fetched',
    absent: '`auto`',
  },
  {
    group: 'place',
    name: 'KUBECONFIG',
    meaning: 'files that say where the cluster is and as whom to ask it, with colons between: for `kaos operator`',
    absent: 'the ServiceAccount of the pod, else `~/.kube/config`',
  },
  {
    group: 'place',
    name: 'KUBERNETES_SERVICE_PORT',
    meaning: 'set in every pod: where the API server is',
    absent: '443',
  },
  {
    group: 'place',
    name: 'KUBERNETES_SERVICE_HOST',
    meaning: 'set in every pod: health and the HTTP door of agents are then served on port 8000',
    absent: 'health only with `--health` or `--http`, HTTP only with `--http`',
  },
  {
    group: 'place',
    name: 'KAOS_GRACE_SECONDS',
    meaning:
      'how long `kaos up` and `kaos host` finish what is in hand when they are told to end; what is not done then is handed back. In a pod some seconds less than `terminationGracePeriodSeconds`',
    absent: '25',
  },
  {
    group: 'place',
    name: 'KAOS_RETENTION_DAYS',
    meaning:
      'how many days `kaos up` keeps a task after all of its trace has ended, with its journals; 7 or more, 0: for ever. In a cluster `retention.days` of the chart says it',
    absent: '30; for ever on a broker that `kaos up` has not started itself',
  },
  {
    group: 'test',
    name: 'KAOS_CRASH_AT',
    meaning: 'kills a host at a point of its work: `<point>` or `<point>:<hit>`',
    absent: 'no crash',
  },
]

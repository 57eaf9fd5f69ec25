/** The verbs of the kaos command, their options and their help. What each does is in the file of its name. Nothing runs by importing this. */
import { readFileSync } from 'node:fs'
import { Command, InvalidArgumentError, Option } from 'commander'
import type { ListenAddress } from './process/address.ts'
import { parseHealthAddress } from './process/health.ts'
import { preferLittleMemory } from './process/memory.ts'

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }

const namespace = () =>
  new Option('-n, --namespace <name>', 'namespace; default: that of the "kaos up" of this folder, else "default"')
const offline = () => new Option('--offline', 'the offline model answers for every agent, whatever keys and addresses are set')
const context = () =>
  new Option('--context <name>', 'context of the nats command, or its file; NATS_* variables come first (default: NATS_CONTEXT)')
const health = (otherwise: string) =>
  new Option('--health <[host:]port>', `serve /health and /ready there; port 0: any (default: ${otherwise})`).argParser(
    healthAddress,
  )
const http = (otherwise: string) =>
  new Option(
    '--http <[host:]port>',
    `serve the agents there to OpenAI's clients, with /health and /ready; port 0: any (default: ${otherwise})`,
  ).argParser(healthAddress)
const json = () => new Option('--json', 'print one JSON document')
const file = () => new Option('-f, --file <path...>', 'manifest files or folders')
/** Beside an argument: `replay -f FILE last` would take "last" for a second file. */
const oneFile = () =>
  new Option('-f, --file <path>', 'manifest file or folder; may be given again').argParser(
    (path: string, before: readonly string[] | undefined) => [...(before ?? []), path],
  )

export function program(): Command {
  const kaos = new Command('kaos')
    .description('Durable systems of AI agents on NATS.')
    .version(version)
    .showHelpAfterError('(run it with --help to see how it is used)')
    .showSuggestionAfterError()
    .exitOverride()
    .addHelpText('after', EXAMPLES)

  kaos
    .command('init')
    .description('Write a team to begin with: a coordinator, a tool and a machine of your own, and tests that need no key.')
    .argument('<folder>', 'a new or empty folder')
    .addOption(json())
    .addHelpText('after', '\nExample:\n  kaos init my-team && cd my-team && npm test')
    .action(run(async (folder: string, options: never) => (await import('./init.ts')).init(folder, options)))
  kaos
    .command('up')
    .description('Run a system here: broker, agents and tool servers in one process.')
    .addOption(file().makeOptionMandatory())
    .option('--port <port>', 'port of the embedded NATS server; another one if it is taken, 0: any (default: 4222)', portNumber)
    .addOption(offline())
    .addOption(context())
    .addOption(http('off'))
    .addOption(health('off'))
    .addOption(json())
    .addHelpText('after', '\nExample:\n  kaos up -f team.yaml')
    .action(run(async (options: never) => (await import('./up.ts')).up(options)))
  kaos
    .command('host')
    .description(
      'Run more agents and tool servers beside a "kaos up": on a context or NATS_URL, else on the broker of this folder.',
    )
    .addOption(file().makeOptionMandatory())
    .option('--only <name...>', 'these agents and tool servers only; agent/NAME or tool/NAME where both have one name')
    .addOption(offline())
    .addOption(context())
    .addOption(http('*:8000 in a pod that hosts an agent, else off'))
    .addOption(health('with --http, else *:8000 in a pod, else off'))
    .addOption(json())
    .addHelpText(
      'after',
      '\nIt creates no streams: "kaos up" with these manifests must have run on that broker once.' +
        '\n\nExample:\n  NATS_URL=nats://127.0.0.1:4222 kaos host -f team.yaml --only researcher notes',
    )
    .action(run(async (options: never) => (await import('./host.ts')).hostCommand(options)))
  kaos
    .command('demo')
    .description('Watch the sample team work, die in the middle and resume.')
    .argument('[task...]', 'a task of your own')
    .addOption(json())
    .addHelpText('after', '\nExample:\n  npm run demo -- "Which of our two clusters is cheaper?"')
    .action(run(async (words: string[], options: never) => (await import('./demo.ts')).demo(words, options)))

  kaos
    .command('operator')
    .description('Keep a Kubernetes cluster as its Agents, MCPServers and ModelAPIs declare; pods follow the backlog.')
    .option('--config <file>', 'configuration of the installation (default: /etc/kaos/installation.yaml)')
    .addOption(
      new Option('--namespace <name>', 'namespace to look after; may be given again (default: all)').argParser(collected),
    )
    .addOption(
      new Option(
        '--health <[host:]port>',
        'serve /livez and /readyz there, and /metrics without --metrics; *: every address (default: *:8081 in a pod, else off)',
      ).argParser(healthAddress),
    )
    .addOption(new Option('--metrics <[host:]port>', 'serve /metrics there (default: off)').argParser(healthAddress))
    .option('--lease <name>', 'Lease that says who leads (default: kaos-actors-operator)')
    .addOption(
      new Option('--stream-replicas <count>', 'servers that hold each stream: 1, 3 or 5 (default: 1)').argParser(streamReplicas),
    )
    .addOption(
      new Option('--leader-elect <boolean>', 'whether several may run, of which one leads')
        .choices(['true', 'false'])
        .default('true'),
    )
    .addOption(json())
    .addHelpText(
      'after',
      '\nThe cluster is that of KUBECONFIG, else the one whose pod this is; the broker that of NATS_*, else broker.url of the file.' +
        '\n\nExample:\n  kaos operator --config installation.yaml --leader-elect=false',
    )
    .action(
      run(async (options: never) => {
        preferLittleMemory()
        return (await import('./cluster/operator.ts')).operatorCommand(options)
      }),
    )

  kaos
    .command('install')
    .description('Set up a kind cluster on this machine: image, operator, broker and the smallest sample.')
    .addOption(new Option('--kind [cluster]', 'name of the cluster, made if there is none (default: kaos)').makeOptionMandatory())
    .option('--archive <file>', 'the image, as npm run image wrote it (default: it is made now, from this checkout)')
    .addOption(json())
    .addHelpText(
      'after',
      '\nIt runs kind, helm and kubectl. For any other cluster: docs/kubernetes.md.' +
        '\n\nExample:\n  npm run kaos -- install --kind',
    )
    .action(run(async (options: never) => (await import('./cluster/install.ts')).install(options)))

  const task = kaos.command('task').description('Send tasks and see what becomes of them.')
  task
    .command('send')
    .description('Send a task to an agent; its text, or "-" for stdin.')
    .argument('<agent>')
    .argument('<text...>')
    .option('--wait', 'wait for the result and print it')
    .option('--id <id>', 'id of the task: the same id is the same task')
    .option('--timeout <seconds>', 'how long to wait', wholeNumber, 300)
    .option('--quiet', 'no live progress')
    .addOption(json())
    .addOption(namespace())
    .addOption(context())
    .addHelpText(
      'after',
      '\nExamples:\n  kaos task send coordinator "Compare NATS and Kafka" --wait\n  kaos task send coordinator - --id order-17 < order.txt',
    )
    .action(
      run(async (agent: string, words: string[], options: never) => (await import('./task.ts')).taskSend(agent, words, options)),
    )
  task
    .command('watch')
    .description('Follow a task until it ends.')
    .argument('<id>', 'task id, or "last"')
    .option('--timeout <seconds>', 'how long to wait', wholeNumber, 300)
    .addOption(json())
    .addOption(namespace())
    .addOption(context())
    .action(run(async (id: string, options: never) => (await import('./task.ts')).taskWatch(id, options)))
  task
    .command('get')
    .description('Print the result of a task, or its state.')
    .argument('<id>', 'task id, or "last"')
    .addOption(json())
    .addOption(namespace())
    .addOption(context())
    .action(run(async (id: string, options: never) => (await import('./task.ts')).taskGet(id, options)))
  task
    .command('list')
    .description('List the latest tasks, newest first.')
    .option('--limit <count>', 'how many', positiveNumber, 20)
    .addOption(json())
    .addOption(namespace())
    .addOption(context())
    .action(run(async (options: never) => (await import('./task.ts')).taskList(options)))

  task
    .command('signal')
    .description('Send an event to a task that is under way: one that its machine waits for.')
    .argument('<id>', 'task id, or "last"')
    .argument('<event>', 'name of the event')
    .argument('[data]', 'JSON, or text')
    .addOption(json())
    .addOption(namespace())
    .addOption(context())
    .addHelpText('after', '\nExample:\n  kaos task signal approval_order-7 approve \'{"atMostCents": 2000}\'')
    .action(
      run(async (id: string, event: string, data: string | undefined, options: never) =>
        (await import('./task.ts')).taskSignal(id, event, data, options),
      ),
    )
  task
    .command('cancel')
    .description('Cancel a task that is under way, with everything that it asked for.')
    .argument('<id>', 'task id, or "last"')
    .addOption(json())
    .addOption(namespace())
    .addOption(context())
    .action(run(async (id: string, options: never) => (await import('./task.ts')).taskSignal(id, 'cancel', undefined, options)))

  const trace = kaos.command('trace').description('See what happened in a trace, over all its agents.')
  trace
    .command('list')
    .description('List the latest traces, newest first.')
    .option('--limit <count>', 'how many', positiveNumber, 20)
    .addOption(json())
    .addOption(namespace())
    .addOption(context())
    .action(run(async (options: never) => (await import('./trace.ts')).traceList(options)))
  trace
    .command('show')
    .description('Draw a trace as a tree: who called whom, how long, what it cost, where it was taken over.')
    .argument('<trace>', 'trace id, task id, or "last"')
    .option('--content', 'with what was asked and answered')
    .option('--ids', 'with span ids, as a tracing backend knows them; --json always has them')
    .addOption(json())
    .addOption(namespace())
    .addOption(context())
    .action(run(async (id: string, options: never) => (await import('./trace.ts')).traceShow(id, options)))

  kaos
    .command('memory')
    .description('What agents remember.')
    .command('events')
    .description('List what agents remember of one request: messages, calls, delegations and answers, with their spans.')
    .option('--trace <trace>', 'trace id, task id, or "last"', 'last')
    .option('--agent <name>', 'only what this agent remembers')
    .addOption(json())
    .addOption(namespace())
    .addOption(context())
    .addHelpText('after', '\nExample:\n  kaos memory events --trace coordinator_order-17 --agent researcher')
    .action(run(async (options: never) => (await import('./memory.ts')).memoryEventsShow(options)))

  kaos
    .command('replay')
    .description(
      "Re-execute a recorded trace on today's code and manifests, without any call. Exits 0 identical, 1 diverged, 2 inconclusive.",
    )
    .argument('<trace>', 'trace id, task id, or "last"')
    .addOption(oneFile())
    .addOption(json())
    .addOption(namespace())
    .addOption(context())
    .addHelpText('after', '\nExamples:\n  kaos replay last\n  kaos replay 4bf92f3577b34da6a3ce929d0e0e4736 -f changed.yaml')
    .action(run(async (id: string, options: never) => (await import('./replay.ts')).replayCommand(id, options)))

  kaos
    .command('model')
    .description('The offline model.')
    .command('serve')
    .description('Serve an OpenAI-compatible model that follows a script, or simple rules without one.')
    .option('--script <file>', 'YAML or JSON: what to answer to whom')
    .option('--port <port>', 'port; 0 for any free one', portNumber, 0)
    .option('--delay <ms>', 'added to every answer', wholeNumber)
    .addOption(json())
    .addHelpText('after', '\nExample:\n  kaos model serve --script manifests/samples/research-team.script.yaml --port 8081')
    .action(run(async (options: never) => (await import('./model.ts')).modelServe(options)))

  kaos
    .command('tools')
    .description('Tools of your own.')
    .command('serve')
    .description('Serve a file of tools as a standard MCP server: on stdin and stdout, or over HTTP on this machine.')
    .argument('<file>', 'a .ts or .js file that exports tools')
    .option('--http <address>', 'Streamable HTTP at [HOST:]PORT of the loopback; port 0 for any free one')
    .addOption(json())
    .addHelpText('after', '\nExamples:\n  kaos tools serve tools/weather.ts\n  kaos tools serve tools/weather.ts --http 8080')
    .action(run(async (file: string, options: never) => (await import('./tools.ts')).toolsServe(file, options)))
  return kaos
}

const EXAMPLES = `
Examples:
  kaos up -f manifests/samples/research-team.yaml
  kaos task send coordinator "Compare NATS and Kafka" --wait
  kaos trace show last
  kaos replay last

Exit codes: 0 completed, 1 failed or diverged, 2 usage or inconclusive, 3 broker unreachable, 4 time-out, 5 not found.`

/** Commander hands arguments, then options, then the command itself. */
function run<Args extends unknown[]>(action: (...args: Args) => Promise<number>) {
  return async (...args: unknown[]) => {
    process.exitCode = await action(...(args.slice(0, -1) as Args))
  }
}

function collected(text: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), text]
}

function streamReplicas(text: string): number {
  if (['1', '3', '5'].includes(text)) return Number(text)
  throw new InvalidArgumentError('it must be 1, 3 or 5.')
}

function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError(`"${text}" is not a whole number.`)
  return Number(text)
}

function positiveNumber(text: string): number {
  const number = wholeNumber(text)
  if (number === 0) throw new InvalidArgumentError('it must be at least 1.')
  return number
}

function portNumber(text: string): number {
  const port = wholeNumber(text)
  if (port > 65_535) throw new InvalidArgumentError(`"${text}" is no port: 0 to 65535.`)
  return port
}

function healthAddress(text: string): ListenAddress | 'off' {
  const address = parseHealthAddress(text)
  if (address) return address
  throw new InvalidArgumentError(`"${text}" is no address: write PORT, HOST:PORT, [IPv6]:PORT or "off".`)
}

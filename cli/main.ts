/** The kaos command: its verbs, their options and their help. What each does is in the file of its name. */
import { readFileSync } from 'node:fs'
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { KaosError } from '../bus/wire/errors.ts'
import { EXIT, exitCodeOf } from './exit-codes.ts'
import { modelServe } from './model.ts'
import { taskGet, taskList, taskSend, taskWatch } from './task.ts'
import { hostCommand, up } from './up.ts'
import { allowLeavingReaders, describeError, errorJson, printJson, say } from './view/terminal.ts'

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }

const namespace = () =>
  new Option('-n, --namespace <name>', 'namespace; default: that of the "kaos up" of this folder, else "default"')
const json = () => new Option('--json', 'print one JSON document')
const file = () => new Option('-f, --file <path...>', 'manifest files or folders')
/** Beside an argument: `replay -f FILE last` would take "last" for a second file. */
const oneFile = () =>
  new Option('-f, --file <path>', 'manifest file or folder; may be given again').argParser(
    (path: string, before: readonly string[] | undefined) => [...(before ?? []), path],
  )

function program(): Command {
  const kaos = new Command('kaos')
    .description('Durable systems of AI agents on NATS.')
    .version(version)
    .showHelpAfterError('(run it with --help to see how it is used)')
    .showSuggestionAfterError()
    .exitOverride()
    .addHelpText('after', EXAMPLES)

  kaos
    .command('up')
    .description('Run a system here: broker, agents and tool servers in one process.')
    .addOption(file().makeOptionMandatory())
    .option('--port <port>', 'port of the embedded NATS server; another one if it is taken, 0: any (default: 4222)', portNumber)
    .addOption(json())
    .addHelpText('after', '\nExample:\n  kaos up -f manifests/samples/research-team.yaml')
    .action(run(up))
  kaos
    .command('host')
    .description('Run more agents and tool servers beside a "kaos up": on NATS_URL, else on the broker of this folder.')
    .addOption(file().makeOptionMandatory())
    .option('--only <name...>', 'these agents and tool servers only')
    .addOption(json())
    .addHelpText(
      'after',
      '\nIt creates no streams: "kaos up" with these manifests must have run on that broker once.' +
        '\n\nExample:\n  NATS_URL=nats://127.0.0.1:4222 kaos host -f team.yaml --only researcher notes',
    )
    .action(run(hostCommand))
  kaos
    .command('demo')
    .description('Watch the sample team work, die in the middle and resume.')
    .argument('[task...]', 'a task of your own')
    .addOption(json())
    .addHelpText('after', '\nExample:\n  npm run demo -- "Which of our two clusters is cheaper?"')
    .action(run(async (words: string[], options: never) => (await import('./demo.ts')).demo(words, options)))

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
    .addHelpText(
      'after',
      '\nExamples:\n  kaos task send coordinator "Compare NATS and Kafka" --wait\n  kaos task send coordinator - --id order-17 < order.txt',
    )
    .action(run(taskSend))
  task
    .command('watch')
    .description('Follow a task until it ends.')
    .argument('<id>', 'task id, or "last"')
    .option('--timeout <seconds>', 'how long to wait', wholeNumber, 300)
    .addOption(json())
    .addOption(namespace())
    .action(run(taskWatch))
  task
    .command('get')
    .description('Print the result of a task, or its state.')
    .argument('<id>', 'task id, or "last"')
    .addOption(json())
    .addOption(namespace())
    .action(run(taskGet))
  task
    .command('list')
    .description('List the latest tasks, newest first.')
    .option('--limit <count>', 'how many', positiveNumber, 20)
    .addOption(json())
    .addOption(namespace())
    .action(run(taskList))

  const trace = kaos.command('trace').description('See what happened in a trace, over all its agents.')
  trace
    .command('list')
    .description('List the latest traces, newest first.')
    .option('--limit <count>', 'how many', positiveNumber, 20)
    .addOption(json())
    .addOption(namespace())
    .action(run(async (options: never) => (await import('./trace.ts')).traceList(options)))
  trace
    .command('show')
    .description('Draw a trace as a tree: who called whom, how long, what it cost, where it was taken over.')
    .argument('<trace>', 'trace id, task id, or "last"')
    .addOption(json())
    .addOption(namespace())
    .action(run(async (id: string, options: never) => (await import('./trace.ts')).traceShow(id, options)))

  kaos
    .command('replay')
    .description(
      "Re-execute a recorded trace on today's code and manifests, without any call. Exits 0 identical, 1 diverged, 2 inconclusive.",
    )
    .argument('<trace>', 'trace id, task id, or "last"')
    .addOption(oneFile())
    .addOption(json())
    .addOption(namespace())
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
    .action(run(modelServe))
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

allowLeavingReaders()
try {
  await program().parseAsync()
} catch (error) {
  const isJson = process.argv.includes('--json')
  if (error instanceof CommanderError) {
    // It has told people already.
    process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage
    if (isJson && error.exitCode !== 0) printJson(errorJson(new KaosError('usage', error.message.replace(/^error: /, ''))))
  } else {
    if (isJson) printJson(errorJson(error))
    else say(describeError(error))
    process.exitCode = exitCodeOf(error)
  }
}

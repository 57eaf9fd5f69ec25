/**
 * `kaos install --kind`: a kind cluster on this machine with the operator, its broker and the smallest sample. It runs kind, helm and kubectl, and may be
 * given again: what is there already stays.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { delimiter, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isExecutable } from '../../bus/server/binary/cache.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import { EXIT } from '../process/exit-codes.ts'
import { paintAside, print, printJson, say } from '../view/terminal.ts'

const here = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const SAMPLE = 'manifests/samples/simple.yaml'
const NAMESPACE = 'kaos-system'
const DEFAULT_CLUSTER = 'kaos'

/** An image is compiled, and images of a cluster are pulled. */
const STEP_MS = 900_000
/** How long helm waits for the operator and its broker. */
const READY_TIMEOUT = '10m'

const PROGRAMS = {
  kind: 'https://kind.sigs.k8s.io',
  helm: 'https://helm.sh',
  kubectl: 'https://kubernetes.io/docs/tasks/tools',
} as const

interface Step {
  /** What it does, for people. */
  readonly does: string
  readonly program: string
  readonly args: readonly string[]
}

/** Throws `program_missing` before anything is done, and `program_failed` with the step that did not succeed. */
export async function install(options: {
  readonly kind: string | true
  readonly archive?: string
  readonly json?: boolean
}): Promise<number> {
  const cluster = options.kind === true ? DEFAULT_CLUSTER : options.kind
  const { env } = process
  const missing: string[] = []
  for (const [name, source] of Object.entries(PROGRAMS)) if (!(await isOnPath(name, env))) missing.push(`"${name}" (${source})`)
  if (missing.length > 0)
    throw new KaosError('program_missing', `could not install into kind: PATH has no ${missing.join(', no ')}`)
  const script = here('scripts/image.ts')
  if (options.archive === undefined && !existsSync(script))
    throw new KaosError('usage', 'could not make the image: this is no checkout; name its archive with --archive FILE')

  const clusters = (await output('kind', ['get', 'clusters'])).split(/\s+/)
  const steps = stepsFor({ cluster, isNew: !clusters.includes(cluster), archive: options.archive, script })
  for (const { does, program, args } of steps) {
    say(paintAside('dim', `${does}: ${[program === process.execPath ? 'node' : program, ...args].join(' ')}`))
    await run(program, args)
  }
  const context = `kind-${cluster}`
  if (options.json) printJson({ cluster, context, namespace: NAMESPACE, sample: here(SAMPLE), next: nextSteps(context) })
  else
    print(
      `The operator runs in the cluster "${cluster}". Next, a model's key, and a task:\n\n  ${nextSteps(context).join('\n  ')}`,
    )
  return EXIT.ok
}

function stepsFor(wanted: {
  readonly cluster: string
  readonly isNew: boolean
  readonly archive: string | undefined
  readonly script: string
}): readonly Step[] {
  const { cluster, isNew, archive, script } = wanted
  const context = `kind-${cluster}`
  const image = archive === undefined ? here('dist/image.tar') : resolve(archive)
  const release = ['upgrade', '--install', 'kaos', here('manifests/chart'), '--kube-context', context]
  const place = ['--namespace', NAMESPACE, '--create-namespace', '--wait', '--timeout', READY_TIMEOUT]
  const steps: readonly (Step | false)[] = [
    archive === undefined && { does: 'the image', program: process.execPath, args: [script, '--out', image] },
    isNew && { does: 'a cluster', program: 'kind', args: ['create', 'cluster', '--name', cluster] },
    { does: 'the image into it', program: 'kind', args: ['load', 'image-archive', image, '--name', cluster] },
    { does: 'operator and broker', program: 'helm', args: [...release, ...place] },
    { does: 'a sample', program: 'kubectl', args: ['--context', context, 'apply', '--filename', here(SAMPLE)] },
  ]
  return steps.filter((step) => step !== false)
}

function nextSteps(context: string): readonly string[] {
  const kubectl = `kubectl --context ${context}`
  const key = '{"valueFrom":{"secretKeyRef":{"name":"models","key":"api-key"}}}'
  return [
    `${kubectl} create secret generic models --from-literal=api-key="$OPENAI_API_KEY"`,
    `${kubectl} patch modelapi simple-models --type merge --patch '{"spec":{"proxyConfig":{"provider":"openai","apiKey":${key}}}}'`,
    `${kubectl} get kaos`,
    `${kubectl} --namespace ${NAMESPACE} port-forward service/kaos-nats 4222 &`,
    'NATS_URL=nats://127.0.0.1:4222 kaos task send assistant "Echo the words: hello world" --namespace default --wait',
    `kind delete cluster --name ${context.replace(/^kind-/, '')}     # takes all of it away`,
  ]
}

async function isOnPath(name: string, env: NodeJS.ProcessEnv): Promise<boolean> {
  for (const folder of (env.PATH ?? '').split(delimiter)) if (await isExecutable(join(folder, name))) return true
  return false
}

/** What it says goes to stderr: stdout is for the answer of this command. */
async function run(program: string, args: readonly string[]): Promise<void> {
  const child = spawn(program, args, { stdio: ['ignore', process.stderr, process.stderr], timeout: STEP_MS })
  judge(program, args, await once(child, 'close'))
}

async function output(program: string, args: readonly string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', process.stderr], timeout: STEP_MS })
  let text = ''
  child.stdout!.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  judge(program, args, await once(child, 'close'))
  return text
}

function judge(program: string, args: readonly string[], [code, signal]: readonly unknown[]): void {
  if (code === 0) return
  const how =
    code === null ? `it was ended by ${signal}, at the latest after ${STEP_MS / 60_000} minutes` : `it ended with ${code}`
  throw new KaosError('program_failed', `could not run "${[program, ...args].join(' ')}": ${how}`)
}

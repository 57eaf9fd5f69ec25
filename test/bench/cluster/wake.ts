/**
 * `node test/bench/cluster/wake.ts`: how long an agent that sleeps takes to begin with a task, stage by stage: from the publish to the first entry in
 * its journal. Writes `results/cluster.json`. A run takes about ten seconds, most of it until the agent sleeps again.
 *
 *   --runs N      default 100
 *   --source      pods run this checkout and strip its types; default: the files of the image, made now
 *   --image PATH  a folder with the files of an image, as "npm run image -- --root" writes them
 *   --dry         writes no file
 *
 * API server, controllers, scheduler, operator, broker and the agent's process are real. The kubelet is the one of the test plane: it starts the
 * process at once, where a container runtime makes a sandbox first. Nothing has to be pulled.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { imageOf } from '../../cluster/stand/stand.ts'
import { type LocalImage, startProcessPods } from '../../testplane/fake-kubelet.ts'
import { spreadOf } from '../results.ts'
import { epochMs, type Milestone, Milestones, STAGES, type Stage } from './milestones.ts'
import { ClusterRig, machine, tell, writeClusterResult } from './rig.ts'

const { values: given } = parseArgs({
  options: {
    runs: { type: 'string', default: '100' },
    image: { type: 'string' },
    source: { type: 'boolean', default: false },
    dry: { type: 'boolean', default: false },
  },
})
const AGENT = 'sleeper'
const HOST_IMAGE = 'kaos.test/kaos:1'
const READY_MS = 60_000
const PACK_MS = 300_000
/** The operator looks at all backlogs this often: a task may come at any moment in between. */
const LOOK_MS = 5_000
/** Before the first run that counts: everybody's own first times. */
const WARM_UPS = 2
const stages = Object.keys(STAGES) as Stage[]

const load = machine()
await using rig = await ClusterRig.start()
const { stand } = rig
const { namespace, connection } = stand
const folder = await mkdtemp(join(tmpdir(), 'kaos-bench-wake-'))
stand.add(() => rm(folder, { recursive: true, force: true }))
const hostImage = await imageOfHost()
const pods = await startProcessPods(rig.plane, {
  namespace,
  imageOf: (image) => (image === HOST_IMAGE ? hostImage : imageOf(image)),
})
stand.add(() => pods.stop())
const operator = await rig.operator()
stand.add(() => operator.stop())
const milestones = new Milestones(stand, pods, AGENT)
await stand.apply(`
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: ${AGENT} }
spec:
  modelAPI: models
  model: m
  config: { description: Sleeps., instructions: Answer briefly. }
  scaling: { cooldownSeconds: 1 }
`)
await stand.untilReady('ModelAPI', 'models', READY_MS)
await stand.untilReady('Agent', AGENT, READY_MS)

/** One run: each milestone in ms since the publish, and each stage in ms. */
interface Run {
  readonly since: Readonly<Record<Milestone, number>>
  readonly took: Readonly<Record<Stage, number>>
}

const runs: Run[] = []
for (let run = 1 - WARM_UPS; run <= Number(given.runs); run++) {
  await milestones.asleep()
  await delay(Math.random() * LOOK_MS)
  const done = await wakeOnce(`What is ${run} + ${run}?`)
  if (run <= 0) continue
  runs.push(done)
  tell(
    `${run}: ${stages.map((stage) => `${stage} ${Math.round(done.took[stage])}`).join(', ')}: ${Math.round(done.since.entry)} ms`,
  )
}

const figures = {
  at: new Date().toISOString(),
  machine: load,
  runs: runs.length,
  pods: given.source ? 'this checkout' : 'the files of the image',
  firstEntryMs: summary(runs.map(({ since }) => since.entry)),
  resultMs: summary(runs.map(({ since }) => since.result)),
  stagesMs: Object.fromEntries(
    stages.map((stage) => [stage, { what: STAGES[stage], ...summary(runs.map(({ took }) => took[stage])) }]),
  ),
}
console.log(JSON.stringify(figures, undefined, 2))
if (!given.dry) tell(`written to ${await writeClusterResult('wake', figures)}`)

async function wakeOnce(task: string): Promise<Run> {
  milestones.begin()
  const publishedAt = epochMs()
  await connection.request(`kaos.${namespace}.agent.${AGENT}.task`, task)
  const at = await milestones.all().catch(async (error: Error) => {
    const logs = await Promise.all(pods.list().map(async ({ name }) => `${name}:\n${await pods.logs(name)}`))
    throw new Error(`${error.message}\n${logs.join('\n')}`)
  })
  const since = Object.fromEntries(Object.entries(at).map(([name, ms]) => [name, ms - publishedAt])) as Record<Milestone, number>
  const took = Object.fromEntries(stages.map((stage, i) => [stage, since[stage] - (i === 0 ? 0 : since[stages[i - 1]!])]))
  return { since, took: took as Record<Stage, number> }
}

/** Its files as they stand in a pod, and a word from each process when it starts. */
async function imageOfHost(): Promise<LocalImage> {
  const environment = { NODE_OPTIONS: `--import ${pathToFileURL(join(import.meta.dirname, 'pod-start.mjs'))}` }
  if (given.source) return { ...imageOf(HOST_IMAGE), environment }
  const root = given.image ? resolve(given.image) : await layOutImage(join(folder, 'image'))
  // Where the stand's installation says that the command and the working folder are.
  const paths = { '/app/cli': join(root, 'node_modules', 'kaos-actors', 'cli'), '/app': join(root, 'app') }
  return { paths, workingDir: '/app', environment }
}

async function layOutImage(root: string): Promise<string> {
  const script = join(import.meta.dirname, '..', '..', '..', 'scripts', 'image.ts')
  await promisify(execFile)(process.execPath, [script, '--root', root], { timeout: PACK_MS })
  return root
}

/** Whole ms; with fewer than 100 runs p99 is the slowest. */
function summary(values: readonly number[]) {
  const sorted = values.toSorted((a, b) => a - b)
  const { min, median: p50, max } = spreadOf(values)
  const p99 = sorted[Math.ceil(sorted.length * 0.99) - 1]!
  return Object.fromEntries(Object.entries({ min, p50, p99, max }).map(([name, ms]) => [name, Math.round(ms)]))
}

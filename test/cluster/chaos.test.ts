/**
 * Walks by chance: resources come, change and go, somebody else meddles with their children, and every part that can fail does. Whatever the order
 * was, in the end a namespace looks as if it had been declared as it is now, once, to an operator that nothing ever happened to.
 * KAOS_CHAOS_SEEDS ("7", "1-50") walks others than those here, KAOS_CHAOS_STEPS farther: a seed repeats the steps, their timing is the machine's.
 */
import { isDeepStrictEqual } from 'node:util'
import { beforeAll, expect, it, onTestFailed, onTestFinished } from 'vitest'
import type { AnyObject } from '../testplane/api.ts'
import type { AuditLine } from '../testplane/audit.ts'
import { sharedPlane } from '../testplane/shared.ts'
import { differences, isSettled, likenessOf, type Place, streamsOf } from './chaos/likeness.ts'
import { textOf, type Walk, walkOf } from './chaos/steps.ts'
import { ChaosWorld, standWithPods } from './chaos/world.ts'
import { untilCollectorKnows } from './stand/collector.ts'
import { writesOf } from './stand/settling.ts'

const { KAOS_CHAOS_SEEDS: seedsText = '1-2', KAOS_CHAOS_STEPS: stepsText = '40' } = process.env
const SETTLE_MS = 60_000
const CONVERGED_MS = 15_000
const TEST_MS = 300_000
/** They were 2 to 5 in the mean of a walk: a storm is far above. */
const WRITES_PER_STEP_MAX = 15

const plane = sharedPlane()
beforeAll(() => untilCollectorKnows(plane))

it.each(seedsOf(seedsText))('all is as declared after walk %i', { timeout: TEST_MS }, async (seed) => {
  const walk = walkOf(seed, Number(stepsText))
  const since = await plane.auditPosition()
  const world = await ChaosWorld.create(plane, walk)
  onTestFinished(() => world.stand[Symbol.asyncDispose]())
  let at = 'the beginning'
  onTestFailed(({ task }) => {
    const errors = task.result?.errors?.map(({ message }) => message) ?? []
    process.stderr.write(
      [walkText(walk), `It was at: ${at}`, ...errors, ...world.logs.map((log) => log()), ...world.stand.logLines, ''].join(
        '\n---\n',
      ),
    )
  })

  for (const step of walk.steps) {
    at = textOf(step)
    await world.take(step)
  }
  at = 'healing'
  await plane.untilHealed()
  await world.heal()
  await untilSettled(world)
  at = 'comparing'
  const fresh = await declaredAnew(world)
  await untilAlike(world, fresh)

  expect(await leftStreams(world, fresh)).toEqual('')
  const writes = await writesBut(['leases'], world, since)
  expect(writes.length).toBeLessThan(walk.steps.length * WRITES_PER_STEP_MAX)
  expect(world.logs.flatMap((log) => log().split('\n')).filter((line) => line.includes('"level":"error"'))).toEqual([])

  at = 'looking again'
  const ends = await world.stopOperators()
  const [before, versions, settledAt] = [await world.stand.statuses(), versionsIn(world), await plane.auditPosition()]
  await world.lookAgain()

  expect(await writesBut(['leases', 'events'], world, settledAt)).toEqual([])
  expect(versionsIn(world)).toEqual(versions)
  expect(await world.stand.statuses()).toEqual(before)
  expect(ends.map(({ code }) => code)).toEqual(ends.map(() => 0))
})

/** Of operators. Content of Secrets is not read, so whoever begins applies a key that stands in a manifest anew, and that changes nothing. */
async function writesBut(resources: readonly string[], { stand }: ChaosWorld, since: number): Promise<readonly string[]> {
  const writes = await writesOf(stand, 'operator', since)
  const isKey = ({ verb, objectRef }: AuditLine) => verb === 'patch' && objectRef?.name?.endsWith('-api-key')
  return writes.filter((line) => !resources.includes(line.objectRef?.resource ?? '') && !isKey(line)).map(({ what }) => what)
}

function versionsIn({ sight }: ChaosWorld): readonly unknown[] {
  return sight.all().map(({ kind, metadata }) => `${kind} ${metadata.name} ${metadata.resourceVersion}`)
}

/** An operator that nothing ever happened to, in a namespace of its own, with what is declared now. */
async function declaredAnew(world: ChaosWorld): Promise<Place> {
  const fresh = await standWithPods(plane, 'fresh')
  onTestFinished(() => fresh.stand[Symbol.asyncDispose]())
  for (const { apiVersion, kind, metadata, spec } of world.sight.resources()) {
    await plane.api.create(fresh.stand.placed({ apiVersion, kind, metadata: { name: metadata.name }, spec }))
  }
  await fresh.stand.operator()
  await untilSettled(fresh)
  return fresh
}

async function untilSettled({ sight }: Pick<Place, 'sight'>): Promise<void> {
  const unsettled = () => sight.resources().filter((object) => !isSettled(object))
  const brief = ({ kind, metadata, spec, status }: AnyObject) => ({
    kind,
    name: metadata.name,
    generation: metadata.generation,
    spec,
    status,
  })
  const pods = () =>
    sight.of('Pod').map(({ metadata, spec, status }) => ({ name: metadata.name, node: spec.nodeName, ...status }))
  const what = () => `for these to settle: ${JSON.stringify({ resources: unsettled().map(brief), pods: pods() }, undefined, 1)}`
  await sight.until(() => unsettled().length === 0, { what, withinMs: SETTLE_MS })
}

async function untilAlike(world: ChaosWorld, fresh: Place): Promise<void> {
  const differing = () => differences(likenessOf(world), likenessOf(fresh), world.strays)
  const what = () => `for the namespace to look like one that was declared anew: ${JSON.stringify(differing(), undefined, 1)}`
  await world.sight.until(() => differing().length === 0, { what, withinMs: CONVERGED_MS, others: [fresh.sight] })
}

/** Streams that differ from those of `fresh`, but for what is kept of agents and tool servers that are gone. */
async function leftStreams({ stand, mailLeft }: ChaosWorld, fresh: Place): Promise<string> {
  const [is, wanted] = [await streamsOf(stand), await streamsOf(fresh.stand)]
  const mayStay = [...mailLeft].map((owner) => owner.replace(/^Agent /, 'agent_').replace(/^MCPServer /, 'tool_'))
  const isShared = (name: string) => !name.includes('NAMESPACE')
  const isKept = (name: string) =>
    isShared(name) || /_(journal|done)$/.test(name) || mayStay.some((owner) => name.endsWith(`_${owner}_mail`))
  const names = [...new Set([...Object.keys(is), ...Object.keys(wanted)])]
  const isOther = (name: string) => !isDeepStrictEqual(is[name], wanted[name]) && !(wanted[name] === undefined && isKept(name))
  return names
    .filter(isOther)
    .map((name) => `${name} is ${is[name]}, wanted ${wanted[name]}`)
    .join('\n')
}

function walkText({ seed, operators, steps }: Walk): string {
  return [`KAOS_CHAOS_SEEDS=${seed}: ${operators} operators`, ...steps.map((step, i) => `${i} ${textOf(step)}`)].join('\n')
}

/** Numbers and ranges, with commas between. */
function seedsOf(text: string): readonly number[] {
  return text.split(',').flatMap((part) => {
    const [first, last = first] = part.split('-').map(Number) as [number, number?]
    return Array.from({ length: last! - first + 1 }, (_, i) => first + i)
  })
}

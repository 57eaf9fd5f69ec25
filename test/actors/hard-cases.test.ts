/** The hard cases of a turn, each on the bus in memory and on a real nats-server, by the same test. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { assign, setup } from 'xstate'
import type { LocalEffect } from '../../actors/effects/effect.ts'
import { effectSource, registerMachine } from '../../actors/machine.ts'
import type { AgentRuntime } from '../../actors/runtime.ts'
import type { Entry } from '../../bus/wire/entry.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import { keyOf } from '../../bus/wire/ids.ts'
import type { Json } from '../../bus/wire/json.ts'
import { MESSAGE_LIMITS, STREAM_LIMITS } from '../../bus/wire/limits.ts'
import { agentParty, toolParty, userParty } from '../../bus/wire/subjects.ts'
import { deriveTraceId } from '../../bus/wire/trace.ts'
import { type Reply, type ScriptedModel, scriptedRuntime, until } from '../support/memory-system.ts'
import { inMemory, type Place, sendLarge, startNatsPlaces } from '../support/places.ts'
import { Gate, type Hosted, type HostProcess, System, TestClock } from '../support/system.ts'

// Takeovers are waited for: the broker gives mail on after 0.7 s of silence instead of 4, and its holder says five times a second that it lives.
vi.mock('../../bus/wire/limits.ts', async (original) => {
  const limits = await original<typeof import('../../bus/wire/limits.ts')>()
  const shorter = { ackWaitMs: 700, workingEveryMs: 150, unknownEffectRetryMs: 150, nakMs: 100 }
  return { ...limits, DELIVERY_LIMITS: { ...limits.DELIVERY_LIMITS, ...shorter } }
})

/** An append that takes longer than a third of ack_wait may have been overtaken. */
const OVERTAKEN_MS = 300

let nats: Awaited<ReturnType<typeof startNatsPlaces>>
beforeAll(async () => {
  nats = await startNatsPlaces()
})
afterAll(() => nats[Symbol.asyncDispose]())

const echo = (text: string) => ({ name: 'echo', arguments: { text } })
const ask = (peer: string, task: string) => ({ name: `delegate_to_${peer}`, arguments: { task } })
const told = (messages: readonly { role: string; content: string | null }[]) =>
  messages.filter(({ role }) => role === 'tool').map(({ content }) => content)

/** Calls the tool `calls` times at once, then says what it was told. */
const fanning =
  (calls: number): ScriptedModel =>
  ({ messages, turn }) =>
    turn === 0 ? { calls: Array.from({ length: calls }, (_, k) => echo(`${k}`)) } : { text: told(messages).join('|') }

/** Calls the tool once in each of `rounds`, then says what it was told. */
const looping =
  (rounds: number): ScriptedModel =>
  ({ messages, turn }) =>
    turn < rounds ? { calls: [echo(`${turn}`)] } : { text: told(messages).join('|') }

const boss: Hosted = { name: 'boss', tools: ['echo'], steps: 100, toolCalls: 0 }
const kinds = (entries: readonly Entry[]) => entries.map(({ input }) => input.kind)
const result = (value: Json) => ({ kind: 'result', value })
const byHost = (runs: readonly { readonly host: string }[], host: HostProcess) => runs.filter((run) => run.host === host.id)

for (const [name, open] of [
  ['in memory', inMemory],
  ['on nats-server', () => nats.open()],
] as const) {
  describe(`a turn ${name}`, () => {
    let place: Place
    let system: System
    beforeEach(async () => {
      place = await open()
    })
    afterEach(() => place[Symbol.asyncDispose]())
    const start = async (model: ScriptedModel, agents: readonly Hosted[] = [boss], tools: readonly string[] = ['echo']) => {
      system = await System.start(place, { agents, tools, model })
    }

    describe('with several hosts', () => {
      it('takes 50 replies of one actor over four hosts, each once, in one order', async () => {
        await start(fanning(50))
        const hosts = await Promise.all([1, 2, 3, 4].map(() => system.startHost()))
        await system.send('boss', 'k', '{"input":"x","limits":{"fanOut":64}}')
        await system.waitForEntries('boss', 'boss_k', 2)

        await Promise.all(Array.from({ length: 50 }, (_, k) => system.reply('boss', `boss_k_1-${k}`, result(`r${k}`))))

        const { output } = (await system.waitForResult('boss', 'k')) as { output: string }
        expect(output).toBe(Array.from({ length: 50 }, (_, k) => `r${k}`).join('|'))
        await system.startTools('echo') // its answers come after the end
        const entries = (await system.finish()).get('boss_k')!
        expect(entries).toHaveLength(1 + 1 + 50 + 1)
        expect(system.modelRuns).toHaveLength(2)
        const writers = new Set((await system.writers('boss', 'boss_k')).slice(2, 52))
        expect(writers.size, 'more than one host took part').toBeGreaterThan(1)
        for (const writer of writers) expect(hosts.map(({ id }) => id)).toContain(writer)
      })

      it('begins one actor for copies of a start that hosts pull at once', async () => {
        await start(() => ({ text: 'done' }))
        await Promise.all([1, 2, 3].map(() => system.startHost()))

        await Promise.all(Array.from({ length: 9 }, () => system.send('boss', 'k', 'x')))

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'done' })
        expect((await system.finish()).get('boss_k')).toHaveLength(2)
        expect(system.modelRuns).toHaveLength(1)
      })

      it('accepts a valid reply though its own cache is behind', async () => {
        await start(looping(2))
        let pulls = 0
        let isCallSent = false
        const first = await system.startHost({
          crash: () => (at, id) => {
            if (at === 'after-pull' && id === 'boss_k_3-0') pulls++
            if (at === 'before-ack') isCallSent = true
            return undefined
          },
        })
        await system.send('boss', 'k', 'x')
        await system.waitForEntries('boss', 'boss_k', 2)
        // A backlog of one may also be the task itself while its call is on the way.
        await until(() => isCallSent || undefined, 'the call')
        await system.waitForQuiet(1)
        first.freeze()
        const second = await system.startHost()
        await system.reply('boss', 'boss_k_1-0', result('r0'))
        await system.waitForEntries('boss', 'boss_k', 4)
        await system.waitForQuiet(2)
        second.freeze()
        first.wake()

        await system.reply('boss', 'boss_k_3-0', result('r1'))

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'r0|r1' })
        expect(pulls, 'it did not give the reply back to look again later').toBe(1)
        expect((await system.writers('boss', 'boss_k')).slice(-2)).toEqual([first.id, first.id])
        expect(await place.deadLetters(agentParty('boss'))).toEqual([])
      })
    })

    describe('after a death', () => {
      it('sends what an entry asked for, though its writer died before it could', async () => {
        await start(looping(1))
        let appends = 0
        const first = await system.startHost({
          crash: (die) => (at) => (at === 'after-append' && ++appends === 2 ? die() : undefined),
        })
        await system.startTools('echo')
        await system.send('boss', 'k', 'x')
        await until(() => appends === 2 || undefined, 'a death')
        await system.startHost()

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'R(0)' })

        const entries = (await system.finish()).get('boss_k')!
        expect(kinds(entries)).toEqual(['start', 'result', 'result', 'result'])
        expect(byHost(system.modelRuns, first)).toHaveLength(1)
        expect(system.modelRuns).toHaveLength(2)
        expect(system.toolRuns).toHaveLength(1)
      })

      it('runs again only what was in flight, under the same id, when a reply comes again after its entry', async () => {
        const gate = new Gate()
        await start(async ({ messages, turn }) => {
          if (turn === 0) return { calls: [echo('0')] }
          await gate.pass()
          return { text: told(messages).join('|') }
        })
        const first = await system.startHost()
        await system.startTools('echo')
        await system.send('boss', 'k', 'x')
        await gate.waitFor(1)
        first.kill()
        const second = await system.startHost()
        await gate.waitFor(2)
        gate.open()

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'R(0)' })

        const entries = (await system.finish()).get('boss_k')!
        expect(kinds(entries)).toEqual(['start', 'result', 'result', 'resumed', 'result'])
        expect(entries[3]!.delivery).toBe(entries[2]!.delivery)
        expect(system.modelRuns.map(({ effect }) => effect)).toEqual(['boss_k_0-0', 'boss_k_2-0', 'boss_k_2-0'])
        expect(byHost(system.modelRuns, second)).toHaveLength(1)
      })

      it('writes nothing when a mail comes again of which all is done', async () => {
        await start(looping(1))
        let reached = 0
        await system.startHost({ crash: (die) => (at) => (at === 'before-ack' && ++reached === 2 ? die() : undefined) })
        await system.startTools('echo')
        await system.send('boss', 'k', 'x')
        await system.waitForResult('boss', 'k')
        await until(() => reached === 2 || undefined, 'a death')
        const before = await system.entries('boss', 'boss_k')
        await system.startHost()

        const entries = (await system.finish()).get('boss_k')!

        expect(entries).toEqual(before)
        expect(system.modelRuns).toHaveLength(2)
      })

      it('does not run a finished effect again when a host whose cache is behind gets the mail back', async () => {
        const failing = new Gate()
        await start(looping(1))
        let appends = 0
        let acks = 0
        const first = await system.startHost({ crash: () => (at) => void (at === 'before-ack' && acks++) })
        // The answer of its model cannot be stored: it gives the mail back and keeps the actor as it knows it.
        first.before = async (operation) => {
          if (operation !== 'append' || ++appends !== 2) return
          first.freeze()
          failing.open()
          throw new KaosError('publish_timeout', 'the broker is silent')
        }
        await system.send('boss', 'k', 'x')
        await failing.opened
        let sent = 0
        const second = await system.startHost({
          crash: (die) => (at) => (at === 'after-send' && ++sent === 1 ? die() : undefined),
        })
        await until(() => sent === 1 || undefined, 'the call was sent')
        expect(byHost(system.modelRuns, second)).toHaveLength(1)
        first.wake()
        await until(() => acks > 0 || undefined, 'it has done all that its mail is about')
        await system.startTools('echo')

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'R(0)' })

        expect(system.modelRuns.filter(({ effect }) => effect === 'boss_k_0-0')).toHaveLength(2)
        expect(kinds((await system.finish()).get('boss_k')!)).toEqual(['start', 'resumed', 'result', 'result', 'result'])
      })
    })

    describe('of a copy', () => {
      it('acks a second copy of a reply whose first copy is in hand, and runs nothing for it', async () => {
        const gate = new Gate()
        await start(async ({ messages, turn }) => {
          if (turn === 0) return { calls: [echo('0')] }
          await gate.pass()
          return { text: told(messages).join('|') }
        })
        const host = await system.startHost()
        const other = await system.startHost()
        await system.send('boss', 'k', 'x')
        await system.waitForEntries('boss', 'boss_k', 2)
        await system.reply('boss', 'boss_k_1-0', result('r'))
        await gate.waitFor(1)
        await system.waitForQuiet(2) // the call, which nobody takes, and the reply in hand

        await system.reply('boss', 'boss_k_1-0', result('r'))
        await system.reply('boss', 'boss_k_1-0', result('another answer'))

        await system.waitForQuiet(2)
        expect(gate.arrived).toBe(1)
        gate.open()
        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'r' })
        expect(await system.waitForEntries('boss', 'boss_k', 4)).toHaveLength(4)
        expect(byHost(system.modelRuns, host).length + byHost(system.modelRuns, other).length).toBe(2)
      })

      it('takes a start that is sent again, in hand or ended, for the same task', async () => {
        const gate = new Gate()
        await start(async () => {
          await gate.pass()
          return { text: 'done' }
        })
        await system.startHost()
        await system.startHost()
        await system.send('boss', 'k', 'x', { traceparent: `00-${'1'.repeat(32)}-${'2'.repeat(16)}-01` })
        await gate.waitFor(1)

        await system.send('boss', 'k', 'x', { traceparent: `00-${'3'.repeat(32)}-${'4'.repeat(16)}-01` })
        await system.waitForQuiet(1)
        gate.open()
        const first = await system.waitForResult('boss', 'k')
        await system.send('boss', 'k', 'x')
        const entries = (await system.finish()).get('boss_k')!

        expect(first).toMatchObject({ output: 'done', trace: '1'.repeat(32) })
        expect(await system.waitForResult('boss', 'k')).toEqual(first)
        expect(await place.resultCount('boss', 'k')).toBe(1)
        expect(entries).toHaveLength(2)
        expect(system.modelRuns).toHaveLength(1)
        expect(await system.indexed('1'.repeat(32), 'boss', 'boss_k')).toMatchObject({ state: 'completed' })
        expect(await system.indexed('3'.repeat(32), 'boss', 'boss_k')).toBeUndefined()
      })

      it('begins one task for one message id, also when the broker itself tells the copies apart', async () => {
        await start(() => ({ text: 'done' }))
        await system.startHost()
        const send = () => place.publish(place.subjects.door('boss'), 'x', { 'Nats-Msg-Id': 'order-17' })

        await send()
        await send()
        expect(await system.waitForResult('boss', 'order-17')).toMatchObject({ output: 'done', task: 'boss_order-17' })
        await send()

        expect((await system.finish()).get('boss_order-17')).toHaveLength(2)
        expect(await place.tasks('boss')).toEqual(['boss_order-17'])
        expect(system.modelRuns).toHaveLength(1)
      })

      it('lets a tool run once when its call is sent again while the first runs, and after', async () => {
        const gate = new Gate()
        await start(looping(1))
        await system.startHost()
        const run = async (text: string) => {
          await gate.pass()
          return `R(${text})`
        }
        await system.startTools('echo', { run })
        await system.startTools('echo', { run })
        await system.send('boss', 'k', 'x')
        await gate.waitFor(1)
        const call = () =>
          place.publish(place.subjects.call('echo', 'boss', 'boss_k_1-0'), '{"tool":"echo","arguments":{"text":"0"}}')

        await Promise.all([call(), call(), call()])
        gate.open()
        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'R(0)' })
        await call()

        await system.finish()
        expect(system.toolRuns).toHaveLength(1)
      })

      it('tells a parent again when a start comes after its child has ended', async () => {
        await start(
          ({ agent, messages, turn }) => {
            if (agent === 'worker') return { text: 'worked' }
            return turn === 0 ? { calls: [ask('worker', 'work')] } : { text: told(messages).join('|') }
          },
          [{ ...boss, peers: ['worker'] }, { name: 'worker' }],
        )
        const host = await system.startHost()
        const sent: string[] = []
        const copies: Promise<void>[] = []
        host.before = (operation, subject) => {
          if (operation !== 'send') return
          sent.push(subject)
        }
        await system.send('boss', 'k', 'x')
        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'worked' })
        await system.waitForQuiet()
        sent.length = 0

        const subject = place.subjects.start('worker', 'boss', 'boss_k_1-0')
        const context = [{ role: 'user', content: 'x' }]
        copies.push(
          place.publish(subject, JSON.stringify({ input: 'work', path: ['boss'], context }), { 'Kaos-Id': 'boss_k_1-0' }),
        )
        await Promise.all(copies)
        await system.waitForQuiet()

        const journals = await system.finish()
        expect(sent).toContain(place.subjects.reply('boss', agentParty('worker'), 'boss_k_1-0'))
        expect(journals.get('boss_k_1-0')).toHaveLength(2)
        expect(journals.get('boss_k')).toHaveLength(4)
      })
    })

    describe('that is canceled', () => {
      it('before it began answers the later start at its own sender', async () => {
        await start(
          ({ agent, messages, turn }) => {
            if (agent === 'worker') return { text: 'worked' }
            return turn === 0 ? { calls: [ask('worker', 'work')] } : { text: told(messages).join('|') }
          },
          [{ ...boss, peers: ['worker'] }, { name: 'worker' }],
        )
        await system.startHost({ agents: ['worker'] })
        const cancel = place.subjects.signal('worker', 'cancel', agentParty('boss'), 'boss_k_1-0')
        await place.publish(cancel, '', { 'Kaos-Id': 'cancel-1' })
        await system.waitForEntries('worker', 'boss_k_1-0', 1)

        await system.startHost({ agents: ['boss'] })
        await system.send('boss', 'k', 'x')

        const { output } = (await system.waitForResult('boss', 'k')) as { output: string }
        expect(output).toContain('"code":"canceled"')
        const entries = (await system.finish()).get('boss_k_1-0')!
        expect(entries).toHaveLength(1)
        expect(entries[0]).toMatchObject({
          input: { kind: 'signal', name: 'cancel' },
          outcome: { state: 'canceled' },
          from: agentParty('boss'),
        })
        expect(system.modelRuns.filter(({ effect }) => effect.startsWith('boss_k_1-0'))).toEqual([])
      })

      it('stops the model call that another turn began, and its mail', async () => {
        const gate = new Gate()
        await start(async () => {
          await gate.pass()
          return { text: 'too late' }
        })
        await system.startHost()
        await system.send('boss', 'k', 'x')
        await gate.waitFor(1)

        await place.publish(place.subjects.signal('boss', 'cancel', userParty('alice'), 'boss_k'), '')

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ state: 'canceled', failure: { code: 'canceled' } })
        // The model still says nothing, and holds nobody up.
        expect(kinds((await system.finish()).get('boss_k')!)).toEqual(['start', 'signal'])
        gate.open()
      })

      it('cancels the children it waits for, and they theirs', async () => {
        const gate = new Gate()
        const agents = [{ ...boss, peers: ['lead', 'worker'] }, { name: 'lead', peers: ['worker'] }, { name: 'worker' }]
        await start(async ({ agent, turn }) => {
          if (agent === 'boss' && turn === 0) return { calls: [ask('lead', 'lead'), ask('worker', 'work'), echo('0')] }
          if (agent === 'lead') return { calls: [ask('worker', 'more work')] }
          await gate.pass()
          return { text: 'too late' }
        }, agents)
        await system.startHost()
        await system.send('boss', 'k', 'x')
        await gate.waitFor(2)

        await place.publish(place.subjects.signal('boss', 'cancel', userParty('alice'), 'boss_k'), '')

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ state: 'canceled' })
        await system.startTools('echo')
        const journals = await system.finish()
        const outcomes = [...journals].map(([task, entries]) => [task, entries.at(-1)!.outcome?.state])
        expect(outcomes.toSorted()).toEqual([
          ['boss_k', 'canceled'],
          ['boss_k_1-0', 'canceled'],
          ['boss_k_1-0_1-0', 'canceled'],
          ['boss_k_1-1', 'canceled'],
        ])
        gate.open()
      })

      it('by a stranger, or by another word, goes on', async () => {
        const gate = new Gate()
        await start(async () => {
          await gate.pass()
          return { text: 'done' }
        })
        await system.startHost()
        await system.send('boss', 'k', 'x')
        await gate.waitFor(1)

        await place.publish(place.subjects.signal('boss', 'cancel', agentParty('stranger'), 'boss_k'), '')
        await place.publish(place.subjects.signal('boss', 'cancel', toolParty('echo'), 'boss_k'), '')
        await place.publish(place.subjects.signal('boss', 'poke', userParty('alice'), 'boss_k'), '')
        await system.waitForQuiet(1)
        gate.open()

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'done' })
      })

      it('or told something takes it once, however often it is sent', async () => {
        const gate = new Gate()
        await start(async () => {
          await gate.pass()
          return { text: 'done' }
        })
        await system.startHost()
        await system.startHost()
        await system.send('boss', 'k', 'x')
        await gate.waitFor(1)
        const poke = () =>
          place.publish(place.subjects.signal('boss', 'poke', userParty('alice'), 'boss_k'), '1', { 'Kaos-Id': 'p1' })

        await Promise.all([poke(), poke(), poke()])
        await system.waitForQuiet(1)
        await poke()
        await system.waitForQuiet(1)
        gate.open()

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'done' })
        expect(kinds((await system.finish()).get('boss_k')!)).toEqual(['start', 'signal', 'result'])
      })

      it('only by a cancel: another signal that overtakes the start waits for it', async () => {
        await start(() => ({ text: 'done' }))
        const host = await system.startHost()
        let reads = 0
        host.before = (operation) => void (operation === 'read' && reads++)
        await place.publish(place.subjects.signal('boss', 'poke', userParty('alice'), 'boss_k'), '')
        await until(() => reads > 0 || undefined, 'the signal was looked at')
        expect(await place.tasks('boss')).toEqual([])

        await system.send('boss', 'k', 'x')

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'done' })
        await system.finish()
        expect(await place.deadLetters(agentParty('boss'))).toEqual([])
      })
    })

    describe('of a host that was frozen', () => {
      it('writes nothing, sends nothing and does not ack when it wakes', async () => {
        const gates = new Map<string, Gate>()
        const gateOf = (host: string) => gates.get(host) ?? gates.set(host, new Gate()).get(host)!
        const spec: Hosted = {
          ...boss,
          runtime: (host) => scriptedRuntime(boss, { subjects: place.subjects, model: gated(host) }),
        }
        const gated =
          (host: string): ScriptedModel =>
          async () => {
            await gateOf(host).pass()
            return { text: `from ${host}` }
          }
        await start(() => ({ text: '' }), [spec])
        const first = await system.startHost()
        await system.send('boss', 'k', 'x')
        await gateOf(first.id).waitFor(1)
        first.freeze()
        const second = await system.startHost()
        await gateOf(second.id).waitFor(1) // it took over, and holds the mail now

        const operations: string[] = []
        first.before = (operation, subject) => void operations.push(`${operation} ${subject}`)
        first.wake()
        gateOf(first.id).open()
        await until(() => operations.some((operation) => operation.startsWith('read')) || undefined, 'it looked at the journal')
        // Had it acked, nobody would get the mail once its holder dies.
        second.kill()
        first.kill()
        const third = await system.startHost()
        await gateOf(third.id).waitFor(1)
        gateOf(third.id).open()

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: `from ${third.id}` })
        expect(operations.filter((operation) => operation.startsWith('send'))).toEqual([])
        expect(kinds((await system.finish()).get('boss_k')!)).toEqual(['start', 'resumed', 'resumed', 'result'])
      })

      it('does not ack either when it had only begun again what it had written before', async () => {
        const gates = new Map<string, Gate>()
        const gateOf = (run: string) => gates.get(run) ?? gates.set(run, new Gate()).get(run)!
        const runs = new Map<string, number>()
        const gated =
          (host: string): ScriptedModel =>
          async () => {
            const run = (runs.get(host) ?? 0) + 1
            runs.set(host, run)
            await gateOf(`${host} ${run}`).pass()
            return { text: `from ${host}` }
          }
        const runtime = (host: string) => scriptedRuntime(boss, { subjects: place.subjects, model: gated(host) })
        await start(() => ({ text: '' }), [{ ...boss, runtime }])
        const first = await system.startHost()
        let appends = 0
        first.before = (operation) => {
          if (operation === 'append' && ++appends === 2)
            throw new KaosError('publish_timeout', 'the broker is silent', { retryAfterMs: 10 })
        }
        await system.send('boss', 'k', 'x')
        await gateOf(`${first.id} 1`).waitFor(1)
        gateOf(`${first.id} 1`).open()
        await gateOf(`${first.id} 2`).waitFor(1) // its mail came again, and it runs the model again
        first.freeze()
        const second = await system.startHost()
        await gateOf(`${second.id} 1`).waitFor(1)
        let reads = 0
        first.before = (operation) => void (operation === 'read' && reads++)
        first.wake()
        gateOf(`${first.id} 2`).open()
        await until(() => reads > 0 || undefined, 'it looked at the journal')
        second.kill()
        first.kill()
        const third = await system.startHost()
        gateOf(`${third.id} 1`).open()

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: `from ${third.id}` })
        expect(kinds((await system.finish()).get('boss_k')!)).toEqual(['start', 'resumed', 'resumed', 'result'])
      })

      it('lets go of all that it ran, also of work that never ends', async () => {
        const never = new Promise<never>(() => {})
        const race = racing({ fast: async () => 'fast', slow: () => never })
        const fast = new Gate()
        const gated = racing({ fast: () => fast.pass().then(() => 'fast'), slow: () => never })
        let hosts = 0
        await start(() => ({ text: '' }), [{ name: 'boss', runtime: () => (hosts++ === 0 ? gated : race) }])
        const first = await system.startHost({ taskSlots: 1 })
        await system.send('boss', 'k', 'x')
        await fast.waitFor(1)
        first.freeze()
        const second = await system.startHost()
        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'fast' })
        second.kill()

        first.wake()
        fast.open()

        // Its only slot is free again.
        await system.send('boss', 'k2', 'x')
        expect(await system.waitForResult('boss', 'k2')).toMatchObject({ output: 'fast' })
      })

      it('begins nothing when it was overtaken while its append was under way', async () => {
        const gate = new Gate()
        await start(async ({ messages, turn }) => {
          if (turn === 0) return { calls: [echo('0')] }
          await gate.pass()
          return { text: told(messages).join('|') }
        })
        const first = await system.startHost()
        let appended = 0
        first.before = (operation) => {
          // Its entry stands, and it sleeps before it hears of that.
          if (operation === 'appended' && ++appended === 3) first.freeze()
        }
        await system.startTools('echo')
        await system.send('boss', 'k', 'x')
        await until(() => appended === 3 || undefined, 'the entry of the reply')
        const second = await system.startHost()
        await gate.waitFor(1)
        const done: string[] = []
        first.before = (operation) => void done.push(operation)

        await new Promise((resolve) => setTimeout(resolve, OVERTAKEN_MS)) // its append must have taken long: nothing else tells us
        first.wake()
        await until(() => done.includes('read') || undefined, 'it looked at the journal')
        gate.open()

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'R(0)' })
        await system.finish()
        expect(byHost(system.modelRuns, first)).toHaveLength(1)
        expect(byHost(system.modelRuns, second)).toHaveLength(1)
        expect(done).not.toContain('send')
      })

      it('goes on when it wakes before anybody took over, and nothing runs twice', async () => {
        const gate = new Gate()
        await start(async () => {
          await gate.pass()
          return { text: 'done' }
        })
        const host = await system.startHost()
        await system.send('boss', 'k', 'x')
        await gate.waitFor(1)
        host.freeze()
        await new Promise((resolve) => setTimeout(resolve, place.ackWaitMs * 1.5)) // the broker takes the mail from it: nothing tells us
        host.wake()
        gate.open()

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'done' })
        expect(kinds((await system.finish()).get('boss_k')!)).toEqual(['start', 'result'])
        expect(system.modelRuns).toHaveLength(1)
      })

      it('is left alone when it says that it lives, though the broker has given its mail to another', async () => {
        const gate = new Gate()
        await start(async () => {
          await gate.pass()
          return { text: 'done' }
        })
        const first = await system.startHost()
        await system.send('boss', 'k', 'x')
        await gate.waitFor(1)
        first.freeze()
        const second = await system.startHost()
        let asked = 0
        second.before = (operation) => {
          if (operation !== 'ask') return
          asked++
          first.wake()
        }
        await until(() => asked > 0 || undefined, 'the question whether it lives')
        gate.open()

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'done' })
        expect(kinds((await system.finish()).get('boss_k')!)).toEqual(['start', 'result'])
        expect(system.modelRuns).toHaveLength(1)
      })
    })

    describe('with local effects side by side', () => {
      it('ends with the first answer; the other is aborted, and one that ignores its signal blocks nothing', async () => {
        let aborted = 0
        const race = racing({
          fast: async () => 'fast',
          slow: (signal) => {
            signal.addEventListener('abort', () => aborted++)
            return new Promise<never>(() => {})
          },
        })
        await start(() => ({ text: '' }), [{ name: 'boss', runtime: () => race }])
        await system.startHost()

        await system.send('boss', 'k', 'x')

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'fast' })
        expect(kinds((await system.finish()).get('boss_k')!)).toEqual(['start', 'result'])
        expect(aborted).toBe(1)
      })
    })

    describe('that fails while something runs', () => {
      it('aborts it, gives its mail back, and begins it again', async () => {
        const signals: AbortSignal[] = []
        const race = racing({
          fast: async () => 'fast',
          slow: (signal) => {
            signals.push(signal)
            return new Promise<never>(() => {})
          },
        })
        await start(() => ({ text: '' }), [{ name: 'boss', runtime: () => race }])
        const host = await system.startHost()
        let appends = 0
        host.before = (operation) => {
          if (operation === 'append' && ++appends === 2)
            throw new KaosError('publish_timeout', 'the broker is silent', { retryAfterMs: 50 })
        }

        await system.send('boss', 'k', 'x')
        await until(() => signals[0]?.aborted || undefined, 'the first run is aborted')

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'fast' })
        expect(kinds((await system.finish()).get('boss_k')!)).toEqual(['start', 'result'])
        expect(signals.map(({ aborted }) => aborted)).toEqual([true, true])
      })
    })

    describe('whose message is refused', () => {
      it('gives its mail back, and the journal holds the message until it is taken', async () => {
        await start(looping(1))
        await system.startTools('echo')
        const host = await system.startHost()
        let refused = 0
        host.before = (operation, subject) => {
          if (operation === 'send' && subject.includes('.call.') && ++refused <= 2)
            throw new KaosError('publish_refused', 'the stream is full', { retryAfterMs: 20 })
        }

        await system.send('boss', 'k', 'x')

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'R(0)' })
        expect(refused).toBe(3)
        expect(kinds((await system.finish()).get('boss_k')!)).toEqual(['start', 'result', 'result', 'result'])
        expect(system.modelRuns).toHaveLength(2)
        expect(await place.deadLetters(agentParty('boss'))).toEqual([])
      })

      it('waits for a stream that is not there yet', async () => {
        await start(looping(1), [boss], [])
        const host = await system.startHost()
        let refused = 0
        host.before = (operation, subject) => void (operation === 'send' && subject.includes('.call.') && refused++)
        await system.send('boss', 'k', 'x')
        await until(() => refused > 0 || undefined, 'a call to nobody')

        await place.declare([], ['echo'])
        await system.startTools('echo')

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'R(0)' })
        expect(kinds((await system.finish()).get('boss_k')!)).toEqual(['start', 'result', 'result', 'result'])
        expect(system.modelRuns).toHaveLength(2)
      })

      it('says its outcome as often as it takes, and once for all to see', async () => {
        await start(() => ({ text: 'done' }))
        const host = await system.startHost()
        let refused = 0
        host.before = (operation, subject) => {
          if (operation === 'send' && subject.includes('.result.') && ++refused <= 2)
            throw new KaosError('stream_missing', 'no stream takes it', { retryAfterMs: 20 })
        }

        await system.send('boss', 'k', 'x')

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'done' })
        expect(kinds((await system.finish()).get('boss_k')!)).toEqual(['start', 'result'])
      })

      it('and that throws comes again, and goes on where it was', async () => {
        let thrown = 0
        const flaky = (subjects: Place['subjects']): AgentRuntime => {
          const runtime = scriptedRuntime(boss, {
            subjects,
            model: looping(1),
            onRun: (effect) => void system.modelRuns.push({ effect, host: '' }),
          })
          const tool = runtime.effects.tool!
          const message = (call: never) => {
            if (++thrown <= 2) throw new Error('a defect')
            return (tool as unknown as { message(call: never): never }).message(call)
          }
          const definition = async () => {
            if (++thrown === 1) throw new TypeError('another defect')
            return runtime.definition()
          }
          return { ...runtime, definition, effects: { ...runtime.effects, tool: { ...tool, message } as never } }
        }
        await start(() => ({ text: '' }), [{ ...boss, runtime: () => flaky(place.subjects) }])
        await system.startHost()
        await system.startTools('echo')

        await system.send('boss', 'k', 'x')

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'R(0)' })
        expect(kinds((await system.finish()).get('boss_k')!)).toEqual(['start', 'result', 'result', 'result'])
        expect(system.modelRuns.map(({ effect }) => effect)).toEqual(['boss_k_0-0', 'boss_k_2-0'])
      })
    })

    describe('with large bodies', () => {
      const MiB = 1_024 * 1_024
      const large = (fill: string, bytes: number) => fill.repeat(Math.ceil(bytes / Buffer.byteLength(fill)))

      it('carries them at the door, in replies, in delegations and in results, and its journal folds', async () => {
        const input = large('Größe 🌍 ', 2 * MiB)
        const value = large('"quoted" \ud800 ', 1.5 * MiB)
        const report = large('report\n', 3 * MiB)
        const seen: (string | null)[][] = []
        await start(
          ({ agent, messages, turn }) => {
            if (agent === 'worker') {
              seen.push(messages.map(({ content }) => content))
              return { text: report }
            }
            if (turn === 0) return { calls: [echo('0')] }
            if (turn === 1) return { calls: [ask('worker', `work on ${input}`)] }
            return { text: told(messages).join('|') }
          },
          [
            { ...boss, peers: ['worker'] },
            { name: 'worker', toolCallMode: 'native' },
          ],
        )
        const host = await system.startHost()
        await system.startTools('echo', { run: () => value })

        await sendLarge(place, host, 'boss', 'k', input)

        const done = (await system.waitForResult('boss', 'k')) as { output: string }
        expect(done).toMatchObject({ state: 'completed' })
        expect(done.output === `${value}|${report}`).toBe(true)
        const journals = await system.finish()
        expect([...journals.keys()].toSorted()).toEqual(['boss_k', 'boss_k_3-0'])
        expect(seen[0]!.at(-1) === `work on ${input}`).toBe(true)
        expect(seen[0]!.includes(value)).toBe(true)
        for (const { text } of await place.journal('boss', 'boss_k'))
          expect(Buffer.byteLength(text)).toBeLessThanOrEqual(MESSAGE_LIMITS.entryBytesMax)
      })

      const wide: readonly (readonly [string, Json])[] = [
        ['a list of numbers', Array.from({ length: 300_000 }, (_, i) => i)],
        ['an object of small fields', Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`f${i}`, i]))],
        ['rows', Array.from({ length: 20_000 }, (_, i) => ({ id: i, name: `row ${i}`, tags: ['a', 'b'], more: { x: i } }))],
      ]
      for (const [what, value] of wide) {
        it(`takes a tool's answer without any long text: ${what}`, async () => {
          await start(looping(1))
          await system.startHost()
          await system.startTools('echo', { run: () => value })

          await system.send('boss', 'k', 'x')

          const done = (await system.waitForResult('boss', 'k')) as { output: string }
          expect(done.output === JSON.stringify(value)).toBe(true)
          await system.finish()
        })
      }

      const strange: readonly (readonly [string, Json])[] = [
        ['references that are none', { $body: 'f'.repeat(64), list: [{ $body: 'x' }, { $blob: { owner: 1 } }] }],
        ['keys of prototypes', JSON.parse('{"__proto__":{"a":1},"constructor":2,"toJSON":"x","seal":"y","snapshot":{}}') as Json],
        ['half a surrogate pair', ['\ud800', { '\udfff': '\ud800'.repeat(300) }]],
        [
          'keys in no order',
          {
            z: 1,
            a: [
              { y: 'y'.repeat(300), b: 2 },
              { b: 2, y: 'y'.repeat(300) },
            ],
          },
        ],
      ]
      for (const [what, value] of strange) {
        it(`carries ${what} through the door and back from a tool`, async () => {
          await start(looping(1))
          await system.startHost()
          await system.startTools('echo', { run: () => value })

          await system.send('boss', 'k', JSON.stringify({ input: value }))

          expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: JSON.stringify(value) })
          const [first] = (await system.finish()).get('boss_k')!
          expect(first!.input.kind).toBe('start')
        })
      }

      for (const depth of [1_000, 100_000]) {
        it(`tells the model that a tool's answer nests ${depth} deep, and runs the tool once`, async () => {
          let value: Json = 'x'
          for (let i = 0; i < depth; i++) value = [value]
          await start(looping(1))
          await system.startHost()
          await system.startTools('echo', { run: () => value })

          await system.send('boss', 'k', 'x')

          const done = (await system.waitForResult('boss', 'k')) as { output: string }
          expect(done.output).toMatch(/"code":"tool_failed".*nests deeper/)
          await system.finish()
          expect(system.toolRuns).toHaveLength(1)
        })
      }

      it('waits for the body of a call that is not there yet, and runs the tool once', async () => {
        const text = large('argument ', 100_000)
        await start(({ messages, turn }) => (turn === 0 ? { calls: [echo(text)] } : { text: `${told(messages)[0]!.length}` }))
        await system.startHost()
        const tools = await system.startTools('echo')
        const { blobs } = tools.bus
        const whole = blobs.read
        let reads = 0
        blobs.read = (...blob) =>
          reads++ < 2 ? Promise.reject(new KaosError('body_missing', 'the server is behind')) : whole(...blob)

        await system.send('boss', 'k', 'x')

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: `${text.length + 3}` })
        expect(system.toolRuns).toHaveLength(1)
      })

      it('tells the caller of a tool when its call cannot be read, or it would wait for ever', async () => {
        await start(looping(1))
        const host = await system.startHost()
        host.before = (operation, subject) => {
          // The true call never arrives.
          if (operation === 'send' && subject.includes('.call.')) return new Promise(() => {})
        }
        await system.startTools('echo')
        await system.send('boss', 'k', 'x')
        await system.waitForEntries('boss', 'boss_k', 2)

        const foreign = { owner: agentParty('other'), to: toolParty('echo'), task: 'boss_k', sha: 'f'.repeat(64), bytes: 1 }
        await place.publish(place.subjects.call('echo', 'boss', 'boss_k_1-0'), JSON.stringify({ $blob: foreign }))

        const { output } = (await system.waitForResult('boss', 'k')) as { output: string }
        expect(output).toContain('"code":"bad_message"')
        expect(await place.deadLetters(toolParty('echo'))).toHaveLength(1)
      })

      it('restores an actor with large bodies on another host', async () => {
        const value = large('lone \ud800 ', 200_000)
        const gate = new Gate()
        const prompts: string[] = []
        await start(async ({ messages, turn }) => {
          if (turn === 0) return { calls: [echo('0')] }
          prompts.push(told(messages)[0]!)
          await gate.pass()
          return { text: 'done' }
        })
        const first = await system.startHost()
        await system.startTools('echo', { run: () => value })
        await system.send('boss', 'k', 'x')
        await gate.waitFor(1)
        first.kill()
        await system.startHost()
        await gate.waitFor(2)
        gate.open()

        await system.waitForResult('boss', 'k')

        expect(prompts.map((prompt) => prompt === value)).toEqual([true, true])
        await system.finish()
      })

      it('tells the model when a delegation would be larger than any message, instead of waiting for ever', async () => {
        await start(
          ({ messages, turn }) => {
            if (turn < 3) return { calls: [echo(`${turn}`)] }
            return turn === 3 ? { calls: [ask('worker', 'work')] } : { text: told(messages).at(-1)! }
          },
          [{ ...boss, peers: ['worker'], contextLimit: 10 }, { name: 'worker' }],
        )
        await system.startHost()
        await system.startTools('echo', { run: (text) => large(`${text}.`, 3 * MiB) })

        await system.send('boss', 'k', 'x')

        const done = (await system.waitForResult('boss', 'k')) as { output: string }
        expect(done.output).toContain('"code":"payload_too_large"')
        await system.finish()
      })

      it('tells the model when an answer is larger than its journal takes, instead of waiting for ever', async () => {
        await start(({ messages, turn }) =>
          turn === 0 ? { calls: [echo('0')] } : { text: told(messages).at(-1)!.slice(0, 200) },
        )
        await system.startHost()
        // Within the limit as a value; as the text of a message, where each quote is two characters, above it.
        await system.startTools('echo', { run: () => Array.from({ length: 1_500_000 }, () => 'a') })

        await system.send('boss', 'k', 'x')

        const done = (await system.waitForResult('boss', 'k')) as { output: string }
        expect(done.output).toContain('"code":"payload_too_large"')
        await system.finish()
      })
    })

    describe('of mail that nobody asked for', () => {
      it('gives a forged reply back for 30 s, and then puts it aside', async () => {
        const clock = new TestClock()
        await start(looping(1))
        const host = await system.startHost({ clock })
        let reads = 0
        host.before = (operation) => void (operation === 'read' && reads++)

        await system.reply('boss', 'boss_nobody_3-0', result('forged'))
        await until(() => reads > 2 || undefined, 'it was looked for and came again')
        expect(await place.deadLetters(agentParty('boss'))).toEqual([])
        expect(await place.backlog()).toBe(1)
        clock.forward(31_000)

        await system.waitForQuiet()
        const [dead] = await place.deadLetters(agentParty('boss'))
        expect(dead!.header('Kaos-Dead-Code')).toBe('unknown_effect')
        expect(dead!.header('Kaos-Dead-Subject')).toBe(place.subjects.reply('boss', toolParty('echo'), 'boss_nobody_3-0'))
        expect(dead!.header('Kaos-Cause')).toBe('boss_nobody_3-0')
        expect(dead!.body).toBe('{"kind":"result","value":"forged"}')
        expect(await place.tasks('boss')).toEqual([])
      })

      it('of an entry that a known task has not reached is treated likewise, and the task is as it was', async () => {
        const clock = new TestClock()
        await start(looping(1))
        const host = await system.startHost({ clock })
        await system.send('boss', 'k', 'x')
        const before = await system.waitForEntries('boss', 'boss_k', 2)
        let reads = 0
        host.before = (operation) => void (operation === 'read' && reads++)

        await system.reply('boss', 'boss_k_7-0', result('forged'))
        await until(() => reads > 2 || undefined, 'it was looked for and came again')
        clock.forward(31_000)
        await system.waitForQuiet(1)

        const [dead] = await place.deadLetters(agentParty('boss'))
        expect(dead!.header('Kaos-Dead-Code')).toBe('unknown_effect')
        expect(await system.entries('boss', 'boss_k')).toEqual(before)
        await system.reply('boss', 'boss_k_1-0', result('r'))
        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'r' })
      })

      it('is not put aside on the first look, however old it is: the look may be of the past', async () => {
        const clock = new TestClock()
        await start(looping(1))
        const first = await system.startHost()
        await system.send('boss', 'k', 'x')
        await system.waitForEntries('boss', 'boss_k', 2)
        await system.waitForQuiet(1)
        first.kill()
        await system.reply('boss', 'boss_k_1-0', result('r'))
        clock.forward(60_000)
        const second = await system.startHost({ clock })
        const { journal } = second.bus
        const whole = journal.readFromSnapshot
        let reads = 0
        // A server that was leader answers from its past.
        journal.readFromSnapshot = (agent, task) => (reads++ < 3 ? Promise.resolve([]) : whole(agent, task))

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'r' })
        expect(reads).toBeGreaterThan(3)
        expect(await place.deadLetters(agentParty('boss'))).toEqual([])
      })

      it('from a stranger is refused, and the answer of the one who was asked is taken', async () => {
        await start(looping(1))
        await system.startHost()
        await system.send('boss', 'k', 'x')
        await system.waitForEntries('boss', 'boss_k', 2)
        await system.waitForQuiet(1)

        for (const stranger of [toolParty('other'), agentParty('echo'), userParty('echo'), agentParty('boss')])
          await system.reply('boss', 'boss_k_1-0', result('forged'), stranger)
        await system.waitForQuiet(1)
        expect(await system.entries('boss', 'boss_k')).toHaveLength(2)
        await system.reply('boss', 'boss_k_1-0', result('true'))

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'true' })
        expect(await system.entries('boss', 'boss_k')).toHaveLength(4)
      })

      it('to an effect that runs in the host is refused: nobody outside answers for the model', async () => {
        const gate = new Gate()
        await start(async () => {
          await gate.pass()
          return { text: 'true' }
        })
        await system.startHost()
        await system.send('boss', 'k', 'x')
        await gate.waitFor(1)

        const forged = { text: 'forged', toolCalls: [], finishReason: 'stop', model: 'm' }
        for (const sender of [toolParty('echo'), agentParty('boss'), userParty('boss')])
          await system.reply('boss', 'boss_k_0-0', result(forged), sender)
        await system.waitForQuiet(1)
        gate.open()

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'true' })
        expect((await system.finish()).get('boss_k')).toHaveLength(2)
      })
    })

    describe('of mail that cannot be understood', () => {
      const weird = 'Bestellung č\u010d\u010aNats-Rollup: all'
      const broken: readonly (readonly [string, string, Record<string, string>, string])[] = [
        ['an unparsable body', '{"input": ', {}, 'bad_message'],
        ['no body', ' ', {}, 'bad_message'],
        ['a limit out of bounds', '{"input":1,"limits":{"steps":0}}', {}, 'bad_message'],
        ['JSON deeper than the stack', `{"input":${'['.repeat(20_000)}${']'.repeat(20_000)}}`, {}, 'bad_message'],
        ['a later version', 'x', { 'Kaos-V': '2' }, 'unsupported_version'],
        ['a version that is no number', 'x', { 'Kaos-V': 'two' }, 'bad_message'],
        ['a body that lies nowhere', blobOf({}), {}, 'body_missing'],
        ['a body that lies with somebody else', blobOf({ to: { kind: 'agent', name: 'worker' } }), {}, 'bad_message'],
        ['a body at a place that is none', blobOf({ task: 'a b' }), {}, 'bad_message'],
      ]
      function blobOf(fields: object): string {
        const self = { kind: 'agent', name: 'boss' }
        return JSON.stringify({ $blob: { owner: self, to: self, task: 'boss_k', sha: 'f'.repeat(64), bytes: 9, ...fields } })
      }

      for (const [what, body, headers, code] of broken) {
        it(`rejects a task with ${what}, says why where its sender looks, and puts it aside`, async () => {
          const clock = new TestClock()
          await start(() => ({ text: 'done' }))
          await system.startHost({ clock })

          await system.send('boss', weird, body, headers)
          if (code === 'body_missing') {
            await until(async () => (await place.backlog()) === 1 || undefined, 'it is tried again')
            await new Promise((resolve) => setTimeout(resolve, 50))
            clock.forward(31_000)
          }

          const key = keyOf(place.subjects.namespace, 'boss', weird)
          expect(await system.waitForResult('boss', key)).toMatchObject({
            state: 'rejected',
            failure: { code },
            task: `boss_${key}`,
            trace: expect.stringMatching(/^[0-9a-f]{32}$/),
          })
          await system.waitForQuiet()
          const dead = await place.deadLetters(agentParty('boss'))
          expect(dead).toHaveLength(1)
          expect(dead[0]!.body).toBe(body)
          expect(dead[0]!.header('Kaos-Dead-Code')).toBe(code)
          // What a redrive sends leads to the same task.
          expect(keyOf(place.subjects.namespace, 'boss', dead[0]!.header('Kaos-Key')!)).toBe(key)
          expect(await place.tasks('boss')).toEqual([])
        })
      }

      it('begins a new trace for a traceparent that cannot be read, and notes it', async () => {
        await start(() => ({ text: 'done' }))
        await system.startHost()

        await system.send('boss', 'k', 'x', { traceparent: '00-nonsense', 'Kaos-Cause': 'cause-1', baggage: 'tenant=acme' })

        const traceId = deriveTraceId(place.subjects.namespace, 'boss', 'cause-1')
        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'done', trace: traceId })
        const [entry] = (await system.finish()).get('boss_k')!
        expect(entry!.trace).toEqual({ traceId, flags: 1, refused: '00-nonsense', baggage: 'tenant=acme' })
        expect(await system.indexed(traceId, 'boss', 'boss_k')).toMatchObject({ state: 'completed', entries: 2 })
      })

      it('keeps the result of a task whose key garbage was sent under, while it runs and after', async () => {
        const gate = new Gate()
        await start(async () => {
          await gate.pass()
          return { text: 'done' }
        })
        await system.startHost()
        await system.startHost()
        await system.send('boss', 'k', 'x')
        await gate.waitFor(1)

        await Promise.all([1, 2, 3].map(() => system.send('boss', 'k', '{"input":')))
        await system.waitForQuiet(1)
        gate.open()
        expect(await system.waitForResult('boss', 'k')).toMatchObject({ state: 'completed', output: 'done' })
        await system.send('boss', 'k', '{"input":')

        await system.finish()
        expect(await place.deadLetters(agentParty('boss'))).toHaveLength(4)
        expect(await system.waitForResult('boss', 'k')).toMatchObject({ state: 'completed', output: 'done' })
      })

      it('refuses a task that waited longer than the record is kept which could prove that it is new', async () => {
        const clock = new TestClock()
        await start(() => ({ text: 'done' }))
        clock.forward(STREAM_LIMITS.taskAgeMs + 1_000)
        await system.startHost({ clock })

        await system.send('boss', 'k', 'x')

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ state: 'rejected', failure: { code: 'expired' } })
        await system.waitForQuiet()
        expect((await place.deadLetters(agentParty('boss')))[0]!.header('Kaos-Dead-Code')).toBe('expired')
        expect(await place.tasks('boss')).toEqual([])
      })

      it('puts a task aside whose key was used with another input, or by another sender', async () => {
        await start(() => ({ text: 'done' }))
        await system.startHost()
        await system.send('boss', 'k', 'x')
        const first = await system.waitForResult('boss', 'k')
        await system.waitForQuiet()

        await system.send('boss', 'k', 'y')
        await place.publish(place.subjects.doorOf('boss', 'mallory'), 'x', { 'Kaos-Key': 'k' })
        await system.send('boss', 'k', '{"input":"x","session":"other"}')
        await system.waitForQuiet()

        const dead = await place.deadLetters(agentParty('boss'))
        expect(dead.map(({ header }) => header('Kaos-Dead-Code'))).toEqual(['key_conflict', 'key_conflict', 'key_conflict'])
        expect(await system.waitForResult('boss', 'k')).toEqual(first)
        expect((await system.finish()).get('boss_k')).toHaveLength(2)
      })

      for (const [what, body] of [
        ['no JSON', 'done!'],
        ['of no kind', '{"kind":"success","value":1}'],
        ['deeper than the stack', `{"kind":"result","value":${'['.repeat(9_000)}${']'.repeat(9_000)}}`],
        [
          'elsewhere, with somebody else',
          '{"$blob":{"owner":{"kind":"tool","name":"other"},"to":{"kind":"agent","name":"boss"},"task":"boss_k","sha":"' +
            'f'.repeat(64) +
            '","bytes":1}}',
        ],
      ] as const) {
        it(`takes an answer that is ${what} for an error of the one who gave it, and puts it aside`, async () => {
          await start(looping(1))
          await system.startHost()
          await system.send('boss', 'k', 'x')
          await system.waitForEntries('boss', 'boss_k', 2)

          await system.reply('boss', 'boss_k_1-0', body)

          const { output } = (await system.waitForResult('boss', 'k')) as { output: string }
          expect(output).toContain('"code":"bad_message"')
          expect(await place.deadLetters(agentParty('boss'))).toHaveLength(1)
          expect((await system.entries('boss', 'boss_k'))[2]).toMatchObject({
            input: { kind: 'error', failure: { code: 'bad_message' } },
          })
        })
      }

      it('does not let a stranger fail an effect with an answer that cannot be read', async () => {
        await start(looping(1))
        await system.startHost()
        await system.send('boss', 'k', 'x')
        await system.waitForEntries('boss', 'boss_k', 2)
        await system.waitForQuiet(1)

        await system.reply('boss', 'boss_k_1-0', 'nonsense', toolParty('other'))
        await system.waitForQuiet(1)
        await system.reply('boss', 'boss_k_1-0', result('true'))

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'true' })
      })

      it('tells the parent of a delegation that cannot be understood, or it would wait for ever', async () => {
        await start(
          ({ messages, turn }) => (turn === 0 ? { calls: [ask('worker', 'work')] } : { text: told(messages).join('|') }),
          [{ ...boss, peers: ['worker'] }, { name: 'worker' }],
        )
        await place.publish(place.subjects.start('worker', 'boss', 'boss_k_1-0'), '{"input":"x"}', { 'Kaos-V': '2' })
        const host = await system.startHost()
        host.before = (operation, subject) => {
          // The true start never arrives.
          if (operation === 'send' && subject.includes('.mail.start.')) return new Promise(() => {})
        }
        await system.send('boss', 'k', 'x')

        const { output } = (await system.waitForResult('boss', 'k')) as { output: string }
        expect(output).toContain('"code":"unsupported_version"')
      })

      it('waits for a body that is not there yet', async () => {
        await start(looping(1))
        const host = await system.startHost()
        await system.startTools('echo', { run: (text) => text.padEnd(100_000, 'x') })
        let reads = 0
        const { blobs } = host.bus
        const whole = blobs.read
        blobs.read = (...blob) =>
          reads++ === 0 ? Promise.reject(new KaosError('body_missing', 'the server is behind')) : whole(...blob)

        await system.send('boss', 'k', 'x')

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: '0'.padEnd(100_000, 'x') })
        expect(reads).toBeGreaterThan(1)
        expect(await place.deadLetters(agentParty('boss'))).toEqual([])
      })
    })

    describe('of an actor with many entries', () => {
      it('restores it from its snapshot on another host, and the whole journal still folds from its first entry', async () => {
        const rounds = 8
        const seen: number[] = []
        const model: ScriptedModel = ({ turn }): Reply => {
          seen.push(turn)
          return turn < rounds ? { calls: Array.from({ length: 16 }, (_, k) => echo(`${turn}.${k}`)) } : { text: 'done' }
        }
        await start(model)
        await system.startTools('echo')
        // 18 entries a round: it dies past entry 50, the next past entry 120.
        const dying = (after: number) => (die: () => Promise<void>) => {
          let appends = 0
          return (at: string) => (at === 'after-append' && ++appends === after ? die() : undefined)
        }
        const hosts = [await system.startHost({ crash: dying(60) as never })]
        await system.send('boss', 'k', '{"input":"x"}')
        await system.waitForEntries('boss', 'boss_k', 60)
        const read: number[] = []
        const counted = async (options: object = {}) => {
          const host = await system.startHost(options)
          const { journal } = host.bus
          const whole = journal.readFromSnapshot
          journal.readFromSnapshot = async (agent, task) => {
            const stored = await whole(agent, task)
            read.push(stored.length)
            return stored
          }
          return host
        }
        hosts.push(await counted({ crash: dying(70) }))
        await system.waitForEntries('boss', 'boss_k', 130)
        hosts.push(await counted())

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'done' })

        const entries = (await system.finish()).get('boss_k')!
        expect(entries.filter(({ input }) => input.kind !== 'resumed')).toHaveLength(1 + rounds * 17 + 1)
        expect(entries.filter(({ snapshot }) => snapshot !== undefined).map(({ n }) => n)).toEqual([50, 100])
        expect(new Set(await system.writers('boss', 'boss_k'))).toEqual(new Set(hosts.map(({ id }) => id)))
        expect(read.length).toBeGreaterThanOrEqual(2)
        expect(Math.max(...read), 'entries read at a restore').toBeLessThan(60)
        for (const { text } of await place.journal('boss', 'boss_k')) expect(text.length).toBeLessThan(60_000)
      })
    })

    describe('of an agent whose tools are not there', () => {
      const waiting = (lists: { are: boolean }): Hosted => ({
        ...boss,
        runtime: () => {
          const runtime = scriptedRuntime(boss, { subjects: place.subjects, model: () => ({ text: 'done' }) })
          const definition = () =>
            lists.are
              ? runtime.definition()
              : Promise.reject(new KaosError('tool_list_missing', 'server "echo" is silent', { retryAfterMs: 50 }))
          return { ...runtime, definition }
        },
      })

      it('waits for them, and begins when they come', async () => {
        const lists = { are: false }
        await start(() => ({ text: '' }), [waiting(lists)])
        const host = await system.startHost()
        await system.send('boss', 'k', 'x')
        await until(async () => (await place.backlog()) === 1 || undefined, 'the task waits')
        expect(await place.tasks('boss')).toEqual([])

        lists.are = true

        expect(await system.waitForResult('boss', 'k')).toMatchObject({ output: 'done' })
        await system.finish()
        expect(host.id).toBeDefined()
      })

      it('fails after 60 s with the reason', async () => {
        const clock = new TestClock()
        await start(() => ({ text: '' }), [waiting({ are: false })])
        await system.startHost({ clock })
        await system.send('boss', 'k', 'x')
        clock.forward(59_000)
        await new Promise((resolve) => setTimeout(resolve, 200)) // a few redeliveries: nothing tells us of what must not happen
        expect(await place.result('boss', 'k')).toBeUndefined()

        clock.forward(2_000)

        expect(await system.waitForResult('boss', 'k')).toMatchObject({
          state: 'failed',
          failure: { code: 'tool_list_missing', message: 'server "echo" is silent' },
        })
        expect(await system.finish()).toHaveProperty('size', 1)
      })
    })
  })
}

/** An agent that is a race of two local effects: the first answer is the outcome. */
function racing(run: {
  readonly fast: (signal: AbortSignal) => Promise<Json>
  readonly slow: (signal: AbortSignal) => Promise<Json>
}): AgentRuntime {
  const logic = setup({
    types: {} as { context: { said: Json }; output: Json },
    actors: { fast: effectSource<Json, undefined>(), slow: effectSource<Json, undefined>() },
    actions: { take: assign({ said: ({ event }) => (event as unknown as { output: Json }).output }) },
  }).createMachine({
    context: { said: null },
    initial: 'racing',
    output: ({ context }) => context.said,
    states: {
      racing: {
        invoke: [
          { src: 'fast', id: 'fast', onDone: { target: 'ended', actions: 'take' } },
          { src: 'slow', id: 'slow', onDone: { target: 'ended', actions: 'take' } },
        ],
      },
      ended: { type: 'final' },
    },
  })
  const local = (work: (signal: AbortSignal) => Promise<Json>): LocalEffect => ({
    kind: 'local',
    run: async ({ signal }) => ({ value: await work(signal) }),
  })
  return {
    name: 'boss',
    machine: registerMachine({ name: 'race', logic, toInput: () => ({}) }),
    effects: { fast: local(run.fast), slow: local(run.slow) },
    definition: async () => null,
    withoutTools: () => null,
  }
}

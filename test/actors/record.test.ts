import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { emit, setup } from 'xstate'
import { Actor, apply, decide, newState, persistState } from '../../actors/actor.ts'
import { asJson } from '../../actors/agent/definition.ts'
import { agentMachine, type ModelValue } from '../../actors/agent/machine.ts'
import { comparable, type Machine, registerMachine } from '../../actors/machine.ts'
import { type Draft, encode, fold, noteStored } from '../../actors/record.ts'
import { type Entry, type Input, openEntry, sealEntry } from '../../bus/wire/entry.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import { canonicalText, type Json } from '../../bus/wire/json.ts'
import { MESSAGE_LIMITS } from '../../bus/wire/limits.ts'
import { userParty } from '../../bus/wire/subjects.ts'
import { strangeJson } from '../support/arbitraries.ts'
import { definitionOf } from '../support/memory-system.ts'

const TASK = 'boss_k'
const machine = agentMachine()

/** A journal as a host writes it, without a host: what was appended, and the blobs beside it. */
class Journal {
  readonly actor = new Actor('boss', TASK)
  readonly stored: { text: string; writer: string; sequence: number }[] = []
  readonly blobs = new Map<string, string>()
  private readonly machine: Machine

  constructor(using: Machine = machine) {
    this.machine = using
  }

  append(input: Input, options: { readonly snapshot?: boolean; readonly delivery?: string } = {}): Entry {
    const { actor } = this
    const n = actor.state?.n ?? 0
    const decision = decide(this.machine, actor.state, input, 1_700_000_000_000 + n)
    const draft: Draft = {
      n,
      at: 1_700_000_000_000 + n,
      cause: `cause-${n}`,
      delivery: options.delivery ?? `${n}-1`,
      ...(n === 0 && { from: userParty('u'), trace: { traceId: 'f'.repeat(32), flags: 1 } }),
      input,
      commands: decision.commands,
      ...(decision.outcome && { outcome: decision.outcome }),
      machine: this.machine.id,
    }
    const encoded = encode(actor, draft, decision, options.snapshot ? this.machine : undefined)
    for (const [sha, body] of encoded.blobs) this.blobs.set(sha, body)
    const sequence = 10 * (n + 1)
    this.stored.push({ text: encoded.text, writer: `host${n % 2}.${n}`, sequence })
    const state = actor.state ?? newState(draft as Entry)
    apply(TASK, state, draft as Entry, decision, `host${n % 2}.${n}`, encoded.seal)
    actor.state = state
    noteStored(actor, sequence, encoded.text, encoded.bodies, encoded.hasSnapshot)
    return openEntry(encoded.text, undefined, `entry ${n}`).entry
  }

  start(input: Json, definition: object = {}): this {
    const whole = { ...definitionOf({ name: 'boss', tools: ['echo'], steps: 100, toolCalls: 0 }), ...definition }
    this.append({ kind: 'start', input, definition: asJson(whole), limits: { depth: 8, fanOut: 256 }, path: [] })
    return this
  }

  /** The model asks for so many calls, or says its last word. */
  model(calls: number | string, text = ''): this {
    const value: ModelValue = {
      text: typeof calls === 'string' ? calls : text,
      toolCalls: Array.from({ length: typeof calls === 'number' ? calls : 0 }, (_, k) => ({
        id: `${k}`,
        name: 'echo',
        arguments: '{"text":"x"}',
      })),
      finishReason: 'stop',
      model: 'm',
    }
    this.answer(value as unknown as Json)
    return this
  }

  /** The first effect under way is answered. */
  answer(value: Json, options: { readonly snapshot?: boolean } = {}): Entry {
    const [effect] = this.actor.state!.pending.keys()
    return this.append({ kind: 'result', effect: effect!, value }, options)
  }

  readonly readBlob = async (sha: string): Promise<string> => {
    const body = this.blobs.get(sha)
    if (body === undefined) throw new KaosError('body_missing', `blob ${sha} is gone`)
    return body
  }

  /** As another host reads it: all, or from the last snapshot on. */
  async read(stored = this.stored): Promise<Actor> {
    const actor = new Actor('boss', TASK)
    await fold(actor, this.machine, stored, this.readBlob)
    return actor
  }

  fromSnapshot() {
    const from = this.stored.findLastIndex(({ text }) => 'snapshot' in (JSON.parse(text) as object))
    return this.stored.slice(Math.max(0, from))
  }
}

/** All that an actor knows, as text. What a model may read keeps the order of its keys. */
function knowledge(actor: Actor, using = machine): string {
  const { state, sequence, snapshotAt } = actor
  const read = [comparable(state!.snapshot), [...state!.pending.values()], state!.outcome, sequence, snapshotAt]
  return canonicalText(persistState(using, state!)) + JSON.stringify(read)
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
  } catch (error) {
    if (error instanceof KaosError) return error.code
    throw error
  }
  return 'nothing was thrown'
}

const long = (text: string, chars = 300) => text.repeat(Math.ceil(chars / text.length))

describe('a journal', () => {
  it('folds to what its writer knew, from its first entry and from its snapshot', async () => {
    await fc.assert(
      fc.asyncProperty(
        strangeJson(),
        fc.array(fc.record({ value: strangeJson(), calls: fc.integer({ min: 1, max: 3 }), snapshot: fc.boolean() }), {
          maxLength: 8,
        }),
        async (input, rounds) => {
          const journal = new Journal().start(input)
          for (const { value, calls, snapshot } of rounds) {
            journal.model(calls)
            for (let k = 0; k < calls; k++) journal.answer(value, { snapshot })
            if (snapshot) journal.append({ kind: 'resumed', delivery: '0-1' })
          }

          expect(knowledge(await journal.read())).toBe(knowledge(journal.actor))
          expect(knowledge(await journal.read(journal.fromSnapshot()))).toBe(knowledge(journal.actor))
          journal.model('done')
          expect((await journal.read()).state!.outcome).toEqual({ state: 'completed', output: 'done' })
        },
      ),
      { numRuns: 150 },
    )
  })

  it('lets whoever read it go on as if he had written it', async () => {
    const journal = new Journal().start(long('task '))
    journal.model(2).answer(long('a'))
    journal.append({ kind: 'resumed', delivery: '0-1' }, { snapshot: true })
    const reader = new Journal()
    Object.assign(reader, { actor: await journal.read(journal.fromSnapshot()) })

    for (const each of [journal, reader]) each.answer(long('b'))

    expect(reader.stored.at(-1)!.text).toBe(journal.stored.at(-1)!.text)
  })

  it('keeps about as many bytes as there are in what was said, though every prompt repeats all of it', () => {
    const rounds = 40
    const journal = new Journal().start('task')
    for (let round = 0; round < rounds; round++) {
      journal.model(1)
      journal.answer(long(`result ${round} `, 10_000))
    }

    const kept = journal.stored.reduce((sum, { text }) => sum + text.length, 0)
    // Each result stands twice: as an answer, and as a message to the model.
    expect(kept).toBeLessThan(rounds * 10_000 * 3)
  })

  it('has small entries, whatever is in them: large bodies lie beside it', async () => {
    const journal = new Journal().start(long('task ', 3_000_000))
    journal.model(3, long('thinking ', 100_000))
    journal.answer(Array.from({ length: 100_000 }, (_, i) => ({ i })))
    journal.answer(long('\ud800"', 500_000))
    journal.answer(
      { wide: Object.fromEntries(Array.from({ length: 60_000 }, (_, i) => [`k${i}`, long('x', 20)])) },
      { snapshot: true },
    )

    for (const { text } of journal.stored) expect(Buffer.byteLength(text)).toBeLessThanOrEqual(MESSAGE_LIMITS.entryBytesMax)
    expect(journal.blobs.size).toBeGreaterThanOrEqual(4)
    expect(knowledge(await journal.read())).toBe(knowledge(journal.actor))
    expect(knowledge(await journal.read(journal.fromSnapshot()))).toBe(knowledge(journal.actor))
  })

  it('refuses a body that could not be carried to anybody', () => {
    const journal = new Journal().start('task').model(1)

    expect(() => journal.answer(long('"', 5_000_000))).toThrow(expect.objectContaining({ code: 'payload_too_large' }))
    expect(journal.actor.state!.n).toBe(2)
    journal.answer('smaller')
  })

  it('keeps the order of keys in what a model reads', async () => {
    const journal = new Journal().start('task').model(2)
    const fields = Object.fromEntries(['z', 'a', 'm'].map((key) => [key, long(key)]))
    journal.answer([fields])
    journal.answer([Object.fromEntries(Object.entries(fields).toReversed())])

    const { state } = await journal.read()

    const [request] = [...state!.pending.values()]
    const contents = (request!.input as unknown as { request: { messages: { content: string }[] } }).request.messages.slice(-2)
    expect(contents.map(({ content }) => Object.keys((JSON.parse(content) as [object])[0]))).toEqual([
      ['z', 'a', 'm'],
      ['m', 'a', 'z'],
    ])
  })

  it('holds events of a machine as they are, also such as look like references', async () => {
    const event = { type: 'told', $body: 'f'.repeat(64), text: long('x') }
    const telling = registerMachine({
      name: 'telling',
      logic: setup({}).createMachine({ context: {}, entry: emit(event), initial: 'a', states: { a: {} } }) as never,
      toInput: () => ({}),
    })
    const journal = new Journal(telling).start('x')

    expect(journal.stored[0]!.text).toContain(JSON.stringify(event))
    expect(knowledge(await journal.read(), telling)).toBe(knowledge(journal.actor, telling))
  })
})

describe('a journal that is not whole', () => {
  const written = () => {
    const journal = new Journal().start(long('task '))
    journal.model(2)
    journal.answer(long('a'), { snapshot: true })
    journal.answer(long('b', 200_000))
    journal.model('done')
    return journal
  }
  const without = (journal: Journal, n: number) => journal.stored.filter((_, i) => i !== n)

  it('is refused when an entry is missing, repeated or out of place', async () => {
    const journal = written()
    const [zero, one, two, ...rest] = journal.stored as [never, never, never]

    for (const n of [1, 2, 3]) expect(await codeOf(journal.read(without(journal, n))), `without entry ${n}`).toBe('journal_gap')
    expect(await codeOf(journal.read([zero, one, one, two, ...rest]))).toBe('journal_gap')
    expect(await codeOf(journal.read([zero, two, one, ...rest]))).toBe('journal_gap')
    expect(await codeOf(journal.read([one, two, ...rest]))).toBe('journal_damaged')
  })

  it('is refused when anything in it was changed, wherever that is', async () => {
    const journal = written()
    await fc.assert(
      fc.asyncProperty(fc.nat(4), fc.nat(), fc.constantFrom('0', 'x', '"', ' ', '}', '\\'), async (n, at, put) => {
        const { text } = journal.stored[n]!
        const place = at % text.length
        const changed = text.slice(0, place) + put + text.slice(place + 1)
        if (changed === text) return
        const stored = journal.stored.map((each, i) => (i === n ? { ...each, text: changed } : each))
        expect(['journal_damaged', 'body_missing', 'journal_gap']).toContain(await codeOf(journal.read(stored)))
      }),
      { numRuns: 400 },
    )
  })

  it('is refused when it was sealed anew by somebody who changed it', async () => {
    const journal = written()
    const { entry } = openEntry(journal.stored[1]!.text, undefined, 'entry 1')
    const forged = { ...entry, commands: entry.commands.slice(0, 1) } as Entry
    const { seal: before } = openEntry(journal.stored[0]!.text, '', 'entry 0')
    const stored = journal.stored.map((each, i) => (i === 1 ? { ...each, text: sealEntry(forged, before).text } : each))

    // Its own seal is right; the machine asks for something else, and the next seal does not follow.
    expect(await codeOf(journal.read(stored.slice(0, 2)))).toBe('machine_changed')
  })

  it('is refused when a body beside it is gone or another', async () => {
    const gone = written()
    const [sha] = gone.blobs.keys()
    gone.blobs.delete(sha!)
    expect(await codeOf(gone.read())).toBe('body_missing')

    const other = written()
    other.blobs.set(sha!, JSON.stringify('other'))
    expect(await codeOf(other.read())).toBe('body_missing')
  })

  it('is refused by a machine that decides otherwise, and says which entry and which machines', async () => {
    const journal = written()
    const actor = new Actor('boss', TASK)
    const other = agentMachine('changed')
    await fold(actor, other, journal.stored, journal.readBlob)
    expect(actor.state!.outcome, 'a machine whose code is another but decides the same').toBeDefined()

    const silent = registerMachine({
      name: 'silent',
      logic: setup({}).createMachine({ context: {}, initial: 'a', states: { a: {} } }) as never,
      toInput: () => ({}),
    })
    await expect(fold(new Actor('boss', TASK), silent, journal.stored, journal.readBlob)).rejects.toMatchObject({
      code: 'machine_changed',
      message: expect.stringMatching(
        /^entry 0 of task "boss_k" was written by machine "agent@.*" and "silent@.*" decides otherwise$/,
      ),
    })
  })

  it('is refused by a machine that asks for the same and knows something else', async () => {
    const knowing = (what: string) =>
      registerMachine({
        name: 'knowing',
        logic: setup({}).createMachine({ context: { what }, initial: 'a', states: { a: {} } }) as never,
        toInput: () => ({}),
      })
    const journal = new Journal(knowing('one')).start('x')

    expect(await codeOf(fold(new Actor('boss', TASK), knowing('two'), journal.stored, journal.readBlob))).toBe('machine_changed')
    expect(await codeOf(fold(new Actor('boss', TASK), knowing('one'), journal.stored, journal.readBlob))).toBe(
      'nothing was thrown',
    )
  })

  it('is refused from a snapshot that was tampered with', async () => {
    const journal = written()
    const [first, ...rest] = journal.fromSnapshot()
    const { entry } = openEntry(first!.text, undefined, 'entry 2')
    const snapshot = { ...(entry.snapshot as object), usage: { inputTokens: 9, outputTokens: 9, modelCalls: 9, toolCalls: 9 } }
    const stored = [{ ...first!, text: sealEntry({ ...entry, snapshot: snapshot as never }, 'f'.repeat(64)).text }, ...rest]

    expect(await codeOf(journal.read(stored))).toBe('journal_damaged')
  })
})

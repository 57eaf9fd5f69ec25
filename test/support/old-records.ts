/** Records of tasks as hosts leave them on a broker: journals, bodies beside them, results, the index of traces. Some of them damaged. */
import { jetstreamManager } from '@nats-io/jetstream'
import type { BrokerSettings } from '../../bus/access/settings.ts'
import { type NatsBus, openBus } from '../../bus/open.ts'
import { createStreams } from '../../bus/streams.ts'
import { type Entry, NO_USAGE, sealEntry } from '../../bus/wire/entry.ts'
import { sha256 } from '../../bus/wire/json.ts'
import { agentParty, streamNames, userParty } from '../../bus/wire/subjects.ts'
import { silentLog } from '../../telemetry/log.ts'

/** Two parts. */
export const BODY = 'x'.repeat(700_000)

export interface Written {
  readonly trace: string
  readonly agent?: string
  readonly task: string
  /** What the journal ends with; absent: it has ended. */
  readonly journal?: 'ended' | 'working' | 'damaged' | 'gone'
  readonly index?: 'completed' | 'working' | 'unheard-of'
}

/** A namespace with two agents, `a` and `b`, as hosts leave it behind. */
export class Records {
  readonly bus: NatsBus
  private writes = 0

  private constructor(bus: NatsBus) {
    this.bus = bus
  }

  /** Creates the streams of the agents. */
  static async open(settings: BrokerSettings, namespace: string): Promise<Records> {
    const bus = await openBus(settings, { namespace, as: userParty('test'), log: silentLog() })
    await createStreams(bus.connection, { namespace, agents: ['a', 'b'], tools: [] })
    return new Records(bus)
  }

  /** Two entries with a body beside them, a large result, and the record of the index. */
  async write({ trace, agent = 'a', task, journal = 'ended', index = 'completed' }: Written): Promise<void> {
    const { bus } = this
    if (journal !== 'gone') {
      await bus.blobs.write(agentParty(agent), agentParty(agent), task, sha256(BODY), BODY)
      const sequence = await this.append({ agent, task, n: 0, expected: 0 })
      await this.append({ agent, task, n: 1, expected: sequence, journal })
    }
    if (!task.includes('-')) {
      const overflow = { owner: agentParty(agent), to: userParty('anybody'), task }
      await bus.post.send({
        subject: bus.subjects.result(agent, task.split('_')[1]!),
        id: `${task}.result`,
        body: BODY,
        overflow,
      })
    }
    await this.note(trace, agent, task, index)
  }

  async append(entry: {
    readonly agent: string
    readonly task: string
    readonly n: number
    readonly expected: number
    readonly journal?: Written['journal']
  }): Promise<number> {
    const { agent, task, n, expected, journal } = entry
    const { text } = sealEntry(
      {
        n,
        at: Date.now(),
        cause: `${n}`,
        delivery: '1-1',
        input: { kind: 'signal', id: `${n}`, name: 'go', data: null },
        commands: [],
        machine: 'm@1',
        state: '',
        ...(journal === 'ended' && { outcome: { state: 'completed', output: null } }),
      } satisfies Entry,
      '',
    )
    const sequence = await this.bus.journal.append({
      agent,
      task,
      slot: `${task}_${n}`,
      writer: `w.${this.writes++}`,
      text: journal === 'damaged' ? 'no entry' : text,
      snapshotAt: 0,
      expected,
    })
    return sequence as number
  }

  async note(trace: string, agent: string, task: string, state: string): Promise<void> {
    const record = { state, agent, task, title: 't', startedAt: 0, usage: NO_USAGE }
    await this.bus.post.send({
      subject: this.bus.subjects.trace(trace, agent, task),
      id: `${task}.${state}`,
      body: JSON.stringify(record),
    })
  }

  /** Every subject that holds something, with how many messages, without the namespace. */
  async left(): Promise<Readonly<Record<string, number>>> {
    const { namespace } = this.bus
    const manager = await jetstreamManager(this.bus.connection)
    const streams = [
      streamNames.agentJournal(namespace, 'a'),
      streamNames.agentJournal(namespace, 'b'),
      streamNames.results,
      streamNames.traces,
    ]
    const infos = await Promise.all(
      streams.map((stream) => manager.streams.info(stream, { subjects_filter: `kaos.${namespace}.>` })),
    )
    const all = infos.flatMap(({ state }) => Object.entries(state.subjects ?? {}))
    return Object.fromEntries(all.map(([subject, count]) => [subject.replace(`kaos.${namespace}.`, ''), count]))
  }
}

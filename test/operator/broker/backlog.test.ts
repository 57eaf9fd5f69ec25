/** Backlogs as a cluster tells them of which a server is lost: on a real one, and as such a cluster answers once it knows that the server is gone. */
import type { Msg } from '@nats-io/transport-node'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connectBroker, type NatsConnection } from '../../../bus/connection.ts'
import { createStreamsOf } from '../../../bus/streams.ts'
import { ALL_DOORS, streamNames } from '../../../bus/wire/subjects.ts'
import { listBacklogs } from '../../../operator/broker/backlog.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { startTestCluster } from '../../support/broker-cluster.ts'

const ANSWER = { timeout: 10_000 } as const
const AGENTS = ['a', 'b', 'c', 'd', 'e', 'f']
const mailOf = (agent: string) => streamNames.agentMail('default', agent)

async function serverNameOf(connection: NatsConnection, agent: string): Promise<string> {
  const answer = await connection.request(`$JS.API.STREAM.INFO.${mailOf(agent)}`, '', ANSWER)
  return answer.json<{ cluster: { leader: string } }>().cluster.leader
}

/** Where the server that is lost was the one that answers, another has to be found first, and the list may fail meanwhile. */
async function untilListed(connection: NatsConnection, tries = 5): Promise<Awaited<ReturnType<typeof listBacklogs>>> {
  return listBacklogs(connection, ALL_DOORS).catch((error) => {
    if (tries === 1) throw error
    return untilListed(connection, tries - 1)
  })
}

it('are not known of streams on a server that is lost, and are of all others', { timeout: 60_000 }, async () => {
  const cluster = await startTestCluster()
  onTestFinished(() => cluster[Symbol.asyncDispose]())
  const { servers, settings, settingsOf } = cluster
  const connection = await connectBroker(settings, { name: 'test', log: silentLog() })
  onTestFinished(() => connection.close())
  for (const name of AGENTS) {
    await createStreamsOf(connection, 'default', { kind: 'agent', name })
    await connection.request(`kaos.default.agent.${name}.task`, 'a task', ANSWER)
  }
  const places = new Map<string, string>()
  for (const name of AGENTS) places.set(name, await serverNameOf(connection, name))
  const lost = servers.find((server) => `nats://${connection.getServer()}` !== server.url)!
  const lostConnection = await connectBroker(settingsOf(lost), { name: 'test', log: silentLog() })
  const lostName = lostConnection.info!.server_name
  await lostConnection.close()

  await lost.kill()
  const backlogIn = await untilListed(connection)

  const expected = AGENTS.map((name) => [name, places.get(name) === lostName ? 'unknown' : 1])
  expect(AGENTS.map((name) => [name, backlogIn(mailOf(name))])).toEqual(expected)
  expect(expected.flat()).toContain('unknown')
  expect(backlogIn(mailOf('nobody'))).toBe('absent')
})

describe('a list', () => {
  const stream = (name: string, messages: number) => ({ config: { name }, state: { messages } })
  const offsets: number[] = []
  /** Gives one page after the other. */
  const answering = (...pages: readonly object[]): Pick<NatsConnection, 'request'> => ({
    async request(_subject, body) {
      offsets.push(JSON.parse(String(body)).offset)
      const page = pages[offsets.length - 1] ?? { total: 0, streams: [] }
      return { json: () => page } as unknown as Msg
    },
  })

  it('says nothing of a stream that is offline, which stands in it as empty and as missing, and skips none after it', async () => {
    offsets.length = 0
    const first = { total: 4, streams: [stream('lost', 0), stream('a', 3)], missing: ['lost'] }
    const second = { total: 4, streams: [stream('b', 5)], missing: ['silent'] }

    const backlogIn = await listBacklogs(answering(first, second), ALL_DOORS)

    expect(offsets).toEqual([0, 2])
    expect(['lost', 'a', 'b', 'silent', 'other'].map(backlogIn)).toEqual(['unknown', 3, 5, 'unknown', 'absent'])
  })

  it('goes on after a page of which nothing answered', async () => {
    offsets.length = 0
    const first = { total: 2, streams: [], missing: ['silent'] }
    const second = { total: 2, streams: [stream('b', 5)] }

    const backlogIn = await listBacklogs(answering(first, second), ALL_DOORS)

    expect(['silent', 'b', 'other'].map(backlogIn)).toEqual(['unknown', 5, 'absent'])
  })

  it('that ends too early calls nothing absent', async () => {
    offsets.length = 0

    const backlogIn = await listBacklogs(
      answering({ total: 9, streams: [stream('a', 1)] }, { total: 9, streams: null }),
      ALL_DOORS,
    )

    expect(['a', 'other'].map(backlogIn)).toEqual([1, 'unknown'])
  })
})

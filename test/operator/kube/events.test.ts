import { describe, expect, it, onTestFinished } from 'vitest'
import { EVENT_LIMITS, EventRecorder, type Notice } from '../../../operator/kube/events.ts'
import type { KubeObject } from '../../../operator/kube/object.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { AGENTS, refuse, ScriptedApiServer } from './api-server.ts'

const AGENT: KubeObject = { ...AGENTS, metadata: { namespace: 'default', name: 'a', uid: 'u', resourceVersion: '5' } }
const NOTICE: Notice = { type: 'Normal', reason: 'ScaledUp', action: 'Scale', note: 'From 0 to 1 replicas.' }

async function start() {
  const server = await ScriptedApiServer.start()
  onTestFinished(() => server[Symbol.asyncDispose]())
  let dropped = 0
  const recorder = new EventRecorder({
    client: server.client(),
    controller: 'kaos.tools/operator',
    instance: 'operator-1',
    log: silentLog(),
    onDropped: () => dropped++,
  })
  return { server, recorder, dropped: () => dropped }
}

describe('Events', () => {
  it('say what was done to which object and by whom', async () => {
    const { server, recorder } = await start()

    recorder.tell(AGENT, NOTICE)
    await recorder.flush()

    const [{ method, path, body }] = server.asked as [(typeof server.asked)[0]]
    expect(`${method} ${path}`).toBe('POST /apis/events.k8s.io/v1/namespaces/default/events')
    expect(body).toMatchObject({
      ...NOTICE,
      regarding: { apiVersion: AGENTS.apiVersion, kind: 'Agent', namespace: 'default', name: 'a', uid: 'u' },
      reportingController: 'kaos.tools/operator',
      reportingInstance: 'operator-1',
      eventTime: expect.stringMatching(/\.\d{6}Z$/),
    })
  })

  it('that repeat are counted in the one that is there', async () => {
    const { server, recorder } = await start()

    for (let i = 0; i < 3; i++) recorder.tell(AGENT, NOTICE)
    recorder.tell(AGENT, { ...NOTICE, note: 'From 1 to 2 replicas.' })
    await recorder.flush()

    expect(server.asked.map(({ method, body }) => [method, (body as { series?: { count: number } }).series?.count])).toEqual([
      ['POST', undefined],
      ['PATCH', 2],
      ['PATCH', 3],
      ['POST', undefined],
    ])
  })

  it('are written anew when the server has dropped the one that is counted', async () => {
    const { server, recorder } = await start()
    recorder.tell(AGENT, NOTICE)
    await recorder.flush()
    server.once(
      ({ method }) => method === 'PATCH',
      (response) => refuse(response, 404, 'NotFound'),
    )

    recorder.tell(AGENT, NOTICE)
    await recorder.flush()

    expect(server.asked.map(({ method }) => method)).toEqual(['POST', 'PATCH', 'POST'])
  })

  it('of one object are bounded, and do not cost another its own', async () => {
    const { server, recorder, dropped } = await start()

    for (let i = 0; i < 40; i++) recorder.tell(AGENT, { ...NOTICE, note: `${i}` })
    recorder.tell({ ...AGENT, metadata: { ...AGENT.metadata, uid: 'other' } }, NOTICE)
    await recorder.flush()

    expect(server.asked).toHaveLength(EVENT_LIMITS.burst + 1)
    expect(dropped()).toBe(40 - EVENT_LIMITS.burst)
  })

  it('that cannot be written fail nothing', async () => {
    const { server, recorder, dropped } = await start()
    server.once(
      () => true,
      (response) => refuse(response, 403, 'Forbidden'),
    )

    recorder.tell(AGENT, NOTICE)
    recorder.tell(AGENT, { ...NOTICE, reason: 'Other', note: 'x'.repeat(5_000) })
    await recorder.flush()

    expect(dropped()).toBe(1)
    expect(server.asked).toHaveLength(2)
  })

  it.each([
    ['x'.repeat(1_024), 'x'.repeat(1_024)],
    ['x'.repeat(1_025), `${'x'.repeat(1_021)}…`],
    ['é'.repeat(512), 'é'.repeat(512)],
    ['é'.repeat(513), `${'é'.repeat(510)}…`],
    ['🦊'.repeat(300), `${'🦊'.repeat(255)}…`],
  ])('have a note of as many bytes as the API takes: case %#', async (note, expected) => {
    const { server, recorder } = await start()

    recorder.tell(AGENT, { ...NOTICE, note })
    await recorder.flush()

    expect((server.asked[0]!.body as Notice).note).toBe(expected)
    expect(Buffer.byteLength(expected)).toBeLessThanOrEqual(EVENT_LIMITS.noteBytesMax)
  })
})

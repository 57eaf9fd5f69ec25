/** Hosts and their broker: it goes and comes back, it has no streams yet, and a host that is told to leave does so in good order. */
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { checkBroker, inFlightAt, repeated } from '../support/check-broker.ts'
import { eventually } from '../support/mcp-calls.ts'
import {
  AGENTS,
  ProcessSystem,
  type Rig,
  startRig,
  TEAM_WORK,
  TEST_MS,
  TOOL_SERVER,
  teamAnswer,
  teamScript,
} from '../support/process-system.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'

/** Slow enough that something can happen meanwhile. */
const MODEL_MS = 400
const TOOL_MS = 400
const DOWN_MS = 700
const WATCHED_MS = 2_000
/** A publish that no stream takes is repeated for 30 s; nobody waits for that who is told to leave. */
const LEAVES_WITHIN_MS = 10_000

const start = () => startRig(teamScript({ modelMs: MODEL_MS, toolMs: TOOL_MS }))

async function restart({ broker }: Rig): Promise<void> {
  await broker.kill()
  await delay(DOWN_MS)
  await broker.restart()
}

describe.concurrent('a host whose broker is killed and comes back', { timeout: TEST_MS }, () => {
  it('pulls again, if it was idle', async () => {
    await using rig = await start()
    await using system = await ProcessSystem.create(rig, 'idle')
    await Promise.all([system.startTools(), system.startHost()])
    await system.waitForResult(await system.send('worker1', 'before'))

    await restart(rig)
    const result = await system.waitForResult(await system.send('coordinator', 'after'))

    expect(result).toMatchObject({ state: 'completed', output: teamAnswer('after') })
    await checkBroker(system)
  })

  it('carries on, if it was working', async () => {
    await using rig = await start()
    await using system = await ProcessSystem.create(rig, 'working')
    await Promise.all([system.startTools(), system.startHost()])
    const working = system.untilAsked('coordinator_order_3-0')
    const task = await system.send('coordinator', 'order')
    await working

    const killedAt = Date.now()
    await restart(rig)
    const result = await system.waitForResult(task)

    expect(result).toMatchObject({ state: 'completed', output: teamAnswer('order') })
    const findings = await checkBroker(system)
    const open = inFlightAt(killedAt, findings.modelRequests, findings)
    expect([...repeated(findings.modelRequests).keys()].filter((effect) => !open.has(effect))).toEqual([])
    expect(findings.toolRuns).toHaveLength(TEAM_WORK.toolCalls)
  })
})

describe.concurrent('a host that starts before its streams', { timeout: TEST_MS }, () => {
  it('waits for them quietly, says so once, and then works', async () => {
    await using rig = await start()
    await using system = await ProcessSystem.create(rig, 'early', { withStreams: false })
    const sent: string[] = []
    await using proxy = await startTcpProxy({ port: rig.broker.port, onSent: ({ subject }) => sent.push(subject) })
    const host = await system.startHost({ only: [...AGENTS, TOOL_SERVER], natsUrl: proxy.url })

    sent.length = 0
    await delay(WATCHED_MS) // that nothing happens can only be seen over a time
    const messages = sent.length
    await system.createStreams()
    const result = await system.waitForResult(await system.send('coordinator', 'order'))

    expect(host.isRunning).toBe(true)
    // Two pulls of each agent, one of the tool server, and what they announce: a few messages a second each.
    expect(messages).toBeLessThan(((2 * AGENTS.length + 1 + AGENTS.length + 1) * 5 * WATCHED_MS) / 1_000)
    expect(host.stderr.match(/nobody answers a pull/g)).toHaveLength(2 * AGENTS.length + 1)
    expect(result).toMatchObject({ state: 'completed', output: teamAnswer('order') })
    await eventually(async () => (await system.bus.catalog.agents()).length === AGENTS.length)
    await checkBroker(system)
  })

  it('leaves at once when it is told to', async () => {
    await using rig = await start()
    await using system = await ProcessSystem.create(rig, 'never', { withStreams: false })
    const host = await system.startHost({ only: [...AGENTS, TOOL_SERVER] })

    const toldAt = performance.now()
    const code = await host.stop()

    expect(code).toBe(0)
    expect(performance.now() - toldAt).toBeLessThan(LEAVES_WITHIN_MS)
  })
})

describe.concurrent('a host without a broker', { timeout: TEST_MS }, () => {
  it('ends with code 3 and the address, for its supervisor to start it again', async () => {
    await using rig = await start()
    await using system = await ProcessSystem.create(rig, 'nowhere')

    const starting = system.startHost({ natsUrl: 'nats://127.0.0.1:1' })

    await expect(starting).rejects.toThrow(/ended with 3 before it was ready:\ncould not connect to "nats:\/\/127.0.0.1:1"/)
  })
})

describe.concurrent('a host that gets SIGTERM', { timeout: TEST_MS }, () => {
  it('finishes the turns that it has begun and leaves the rest to others', async () => {
    await using rig = await start()
    await using system = await ProcessSystem.create(rig, 'drain')
    const [, host] = await Promise.all([system.startTools(), system.startHost()])
    const working = system.untilAsked('coordinator_order_0-0')
    const task = await system.send('coordinator', 'order')
    await working

    const code = await host.stop()
    await system.startHost()
    const result = await system.waitForResult(task)

    expect(code).toBe(0)
    expect(result).toMatchObject({ state: 'completed', output: teamAnswer('order') })
    const findings = await checkBroker(system)
    expect(findings.takeovers).toBe(0)
    expect(findings.modelRequests).toHaveLength(TEAM_WORK.modelCalls)
    expect(findings.toolRuns).toHaveLength(TEAM_WORK.toolCalls)
  })

  it('finishes a tool call that may not run twice', async () => {
    await using rig = await start()
    await using system = await ProcessSystem.create(rig, 'drain-tool')
    const [tools] = await Promise.all([system.startTools(), system.startHost()])
    const task = await system.send('worker1', 'charge')
    await eventually(() => system.toolRuns().length === 1)

    const code = await tools.stop()
    const result = await system.waitForResult(task)

    expect(code).toBe(0)
    expect(result).toMatchObject({ state: 'completed', output: 'charge:R(charge)' })
    expect((await checkBroker(system)).toolRuns).toHaveLength(1)
  })
})

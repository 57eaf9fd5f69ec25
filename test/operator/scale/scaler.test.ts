/** The loop on a real broker: wakes, races of falling asleep, and whatever may be gone in the middle. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { connectBroker } from '../../../bus/connection.ts'
import { KaosError } from '../../../bus/wire/errors.ts'
import type { Mail } from '../../../operator/broker/mail.ts'
import type { ResourceRef } from '../../../operator/broker/owner.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { mailWith, refOf, SETTINGS, Stand, targetOf } from './stand.ts'

const COOLDOWN_MS = SETTINGS.cooldownSeconds * 1_000
const WINDOW_MS = 60_000

let stand: Stand
beforeEach(async () => {
  stand = await Stand.create(['a', 'b'])
  stand.workloads.counts.set('default/a', 0)
})
afterEach(() => stand[Symbol.asyncDispose]())

/** Whatever the broker had to say has been heard. */
const settled = () => stand.mail.confirmed()

describe('an agent that sleeps', () => {
  it('is woken by the first message, and has all the pods it needs as soon as more is seen', async () => {
    const scaler = stand.scaler()
    scaler.watch(targetOf('a'))
    await scaler.look()

    await stand.send('a', 9)
    await stand.workloads.untilChanges(1)
    await scaler.look()

    expect(stand.workloads.changes).toEqual([
      { agent: 'a', to: 1, why: 'WokenUp' },
      { agent: 'a', to: 5, why: 'BacklogGrew' },
    ])
    expect(stand.meter.wakeMs).toHaveLength(1)
    expect(scaler.state(refOf('a'))).toEqual({ active: 'True', why: 'BacklogGrew', replicas: 5, backlog: 9 })
  })

  it('is found by a leader that begins after the mail was stored', async () => {
    await stand.send('a', 3)
    const scaler = stand.scaler()
    scaler.watch(targetOf('a'))

    await scaler.look()

    expect(stand.workloads.changes).toEqual([{ agent: 'a', to: 2, why: 'WokenUp' }])
  })

  it('is woken by mail that is stored while a new leader looks', async () => {
    const scaler = stand.scaler({ mail: mailWith(stand.mail, { afterList: () => stand.send('a') }) })
    scaler.watch(targetOf('a'))

    await scaler.look()

    expect(await stand.workloads.untilChanges(1)).toEqual([{ agent: 'a', to: 1, why: 'WokenUp' }])
  })

  it('is woken by mail that was stored while nobody listened, as soon as the broker is back', async () => {
    const scaler = stand.scaler()
    scaler.watch(targetOf('a'))
    await scaler.look()
    scaler.start()
    await stand.broker.kill()
    await stand.untilLost()
    await scaler.look()
    expect(scaler.state(refOf('a'))).toMatchObject({ active: 'Unknown', why: 'BrokerUnavailable', replicas: 0 })

    // Somebody who is connected before us stores mail of which nobody hears.
    await stand.broker.restart()
    const connection = await connectBroker(stand.broker.settings, { name: 'test', log: silentLog() })
    await connection.request('kaos.default.agent.a.task', 'a task', { timeout: 10_000 })
    await connection.close()

    expect(await stand.workloads.untilChanges(1)).toEqual([{ agent: 'a', to: 1, why: 'WokenUp' }])
  })

  it('is woken again by the next look when its workload could not be written', async () => {
    let failures = 0
    stand.workloads.before = async () => {
      if (failures++ === 0) throw new Error('the API server says no')
    }
    const scaler = stand.scaler()
    scaler.watch(targetOf('a'))
    await scaler.look()

    await stand.send('a')
    await settled()
    await scaler.look()
    await scaler.look()

    expect(failures).toBe(2)
    expect(stand.workloads.changes).toEqual([{ agent: 'a', to: 1, why: 'WokenUp' }])
  })
})

describe('an agent without mail', () => {
  beforeEach(() => {
    stand.workloads.counts.set('default/a', 1)
  })

  it('falls asleep after its cooldown, and is woken by what comes then', async () => {
    const scaler = stand.scaler()
    scaler.watch(targetOf('a'))
    await scaler.look()
    expect(scaler.state(refOf('a'))).toMatchObject({ why: 'CoolingDown', replicas: 1 })

    stand.now += COOLDOWN_MS
    await scaler.look()
    expect(scaler.state(refOf('a'))).toMatchObject({ why: 'ScaledToZero', replicas: 0 })
    await stand.send('a')

    expect(await stand.workloads.untilChanges(2)).toEqual([
      { agent: 'a', to: 0, why: 'ScaledToZero' },
      { agent: 'a', to: 1, why: 'WokenUp' },
    ])
  })

  it('stays awake when mail is stored between the list and the fresh look', async () => {
    const scaler = stand.scaler({ mail: mailWith(stand.mail, { afterList: () => stand.send('a') }) })
    scaler.watch(targetOf('a'))
    await scaler.look()
    await stand.finishAll('a')
    stand.now += COOLDOWN_MS

    await scaler.look()

    expect(stand.workloads.changes).toEqual([])
    expect(scaler.replicas(refOf('a'))).toBe(1)
  })

  it('stays awake when mail was heard of that a pod has done already', async () => {
    const heardAndDone = async () => {
      await stand.send('a')
      await settled()
      await stand.finishAll('a')
    }
    const scaler = stand.scaler({ mail: mailWith(stand.mail, { beforeRead: heardAndDone }) })
    scaler.watch(targetOf('a'))
    await scaler.look()
    stand.now += COOLDOWN_MS

    await scaler.look()

    expect(stand.workloads.changes).toEqual([])
  })

  it('is woken at once when mail is stored while it is put to sleep', async () => {
    stand.workloads.before = async ({ to }) => {
      if (to === 0) await stand.send('a')
    }
    const scaler = stand.scaler()
    scaler.watch(targetOf('a'))
    await scaler.look()
    stand.now += COOLDOWN_MS

    await scaler.look()

    expect(await stand.workloads.untilChanges(2)).toMatchObject([{ to: 0 }, { to: 1, why: 'WokenUp' }])
  })

  it('is woken when its last pod hands mail back, of which nobody hears', async () => {
    let reads = 0
    const handBack = async () => {
      // The second look is the one after it was put to sleep.
      if (++reads === 2) await stand.send('a')
    }
    const deaf = { ...mailWith(stand.mail, { beforeRead: handBack }), listen: () => {} }
    const scaler = stand.scaler({ mail: deaf })
    scaler.watch(targetOf('a'))
    await scaler.look()
    stand.now += COOLDOWN_MS

    await scaler.look()

    expect(stand.workloads.changes).toMatchObject([{ to: 0 }, { to: 1, why: 'WokenUp' }])
  })

  it('stays awake when its resource is changed meanwhile', async () => {
    let reads = 0
    const change = async () => {
      if (++reads === 1) scaler.watch(targetOf('a', { generation: 2, with: { minReplicas: 1 } }))
    }
    const scaler = stand.scaler({ mail: mailWith(stand.mail, { beforeRead: change }) })
    scaler.watch(targetOf('a'))
    await scaler.look()
    stand.now += COOLDOWN_MS

    await scaler.look()
    await scaler.look()

    expect(reads).toBe(1)
    expect(stand.workloads.changes).toEqual([])
  })

  it('stays awake when the broker is lost before the fresh look', async () => {
    const lose = async () => {
      await stand.broker.kill()
      await stand.untilLost()
    }
    const scaler = stand.scaler({ mail: mailWith(stand.mail, { beforeRead: lose }) })
    scaler.watch(targetOf('a'))
    await scaler.look()
    stand.now += COOLDOWN_MS

    await scaler.look()

    expect(stand.workloads.changes).toEqual([])
    await scaler.look()
    expect(scaler.state(refOf('a'))).toEqual({ active: 'Unknown', why: 'BrokerUnavailable', replicas: 1, backlog: undefined })
  })
})

describe('the count is held', () => {
  it('while the broker is gone, however long, and follows the mail again when it is back', async () => {
    stand.workloads.counts.set('default/a', 3)
    await stand.send('a', 6)
    const scaler = stand.scaler()
    scaler.watch(targetOf('a'))
    await scaler.look()

    await stand.broker.kill()
    await stand.untilLost()
    stand.now += 10 * COOLDOWN_MS
    await scaler.look()
    expect(scaler.state(refOf('a'))).toEqual({ active: 'Unknown', why: 'BrokerUnavailable', replicas: 3, backlog: undefined })
    expect(stand.meter.backlogs.size).toBe(0)
    const back = stand.untilConnected()
    await stand.broker.restart()
    await back
    await scaler.look()

    expect(stand.workloads.changes).toEqual([])
    expect(scaler.state(refOf('a'))).toEqual({ active: 'True', why: 'Steady', replicas: 3, backlog: 6 })
    expect(stand.meter.looks).toEqual([true, false, true])
  })

  it('while the servers of its mail do not answer, and others are scaled as ever', async () => {
    const missing: ResourceRef[] = []
    const silent: Mail = {
      ...mailWith(stand.mail, {}),
      list: async () => ({ of: ({ name }) => (name === 'a' ? 'unknown' : 4) }),
    }
    stand.workloads.counts.set('default/a', 3)
    stand.workloads.counts.set('default/b', 0)
    const scaler = stand.scaler({ mail: silent, onStreamMissing: (agent) => missing.push(agent) })
    for (const name of ['a', 'b']) scaler.watch(targetOf(name))
    await scaler.look()
    stand.now += 10 * COOLDOWN_MS

    await scaler.look()

    expect(scaler.state(refOf('a'))).toEqual({ active: 'Unknown', why: 'BrokerUnavailable', replicas: 3, backlog: undefined })
    expect([stand.workloads.changes, missing]).toEqual([[{ agent: 'b', to: 2, why: 'WokenUp' }], []])
    expect([...stand.meter.backlogs]).toEqual([['b', 4]])
  })

  it('when the agent has no mail stream, which is told to who creates it', async () => {
    const missing: ResourceRef[] = []
    stand.workloads.counts.set('default/nobody', 2)
    const scaler = stand.scaler({ onStreamMissing: (agent) => missing.push(agent) })
    scaler.watch(targetOf('nobody'))
    stand.now += 10 * COOLDOWN_MS

    await scaler.look()

    expect(scaler.state(refOf('nobody'))).toEqual({ active: 'Unknown', why: 'StreamMissing', replicas: 2, backlog: undefined })
    expect(missing).toEqual([refOf('nobody')])
  })

  it('as long as there is no workload', async () => {
    await stand.send('b', 4)
    const scaler = stand.scaler()
    scaler.watch(targetOf('b'))
    await scaler.look()
    expect(scaler.state(refOf('b'))).toEqual({ active: 'False', why: 'WorkloadMissing', replicas: undefined, backlog: 4 })

    stand.workloads.counts.set('default/b', 0)
    await scaler.look()

    expect(stand.workloads.changes).toEqual([{ agent: 'b', to: 2, why: 'WokenUp' }])
  })

  it('when the scaler has stopped', async () => {
    const scaler = stand.scaler()
    scaler.watch(targetOf('a'))
    await scaler.look()
    await scaler.stop()

    await stand.send('a', 4)
    await settled()
    await scaler.look()

    expect(stand.workloads.changes).toEqual([])
  })

  it('when the agent was forgotten', async () => {
    const scaler = stand.scaler()
    scaler.watch(targetOf('a'))
    await scaler.look()
    scaler.forget(refOf('a'))

    await stand.send('a', 4)
    await settled()
    await scaler.look()

    expect(stand.workloads.changes).toEqual([])
    expect([scaler.state(refOf('a')), scaler.replicas(refOf('a')), stand.meter.backlogs.size]).toEqual([undefined, undefined, 0])
  })
})

describe('somebody else', () => {
  it('owns the count of an External agent: nothing is written, the backlog is shown', async () => {
    const scaler = stand.scaler()
    scaler.watch(targetOf('a', { scaler: 'External' }))
    await scaler.look()

    await stand.send('a', 4)
    await settled()
    await scaler.look()

    expect(stand.workloads.changes).toEqual([])
    expect(scaler.state(refOf('a'))).toEqual({ active: 'False', why: 'External', replicas: undefined, backlog: 4 })
    expect(stand.meter.backlogs.get('a')).toBe(4)
  })

  it('may set the count by hand: it holds against mail and quiet until it is taken back', async () => {
    await stand.send('a', 8)
    const scaler = stand.scaler()
    scaler.watch(targetOf('a', { manualReplicas: 3 }))
    await scaler.look()
    expect(scaler.state(refOf('a'))).toEqual({ active: 'False', why: 'ManualOverride', replicas: 3, backlog: 8 })
    scaler.watch(targetOf('a', { generation: 2, manualReplicas: 0 }))
    await scaler.look()
    await stand.send('a')
    await settled()
    await scaler.look()

    scaler.watch(targetOf('a', { generation: 3 }))
    await scaler.look()

    expect(stand.workloads.changes).toEqual([
      { agent: 'a', to: 3, why: 'ManualOverride' },
      { agent: 'a', to: 0, why: 'ManualOverride' },
      { agent: 'a', to: 5, why: 'WokenUp' },
    ])
  })

  it('is told of each change of what is decided, once', async () => {
    const told: (string | undefined)[] = []
    const scaler = stand.scaler({ onState: (agent) => told.push(`${agent.name} ${scaler.state(agent)?.why}`) })
    scaler.watch(targetOf('a'))

    await scaler.look()
    await scaler.look()
    await stand.send('a')
    await stand.workloads.untilChanges(1)
    await scaler.look()
    await scaler.look()

    expect(told).toEqual(['a Steady', 'a WokenUp', 'a Steady'])
  })
})

it('scales many agents each by its own mail, down after the window as well', async () => {
  stand.workloads.counts.set('default/b', 4)
  await stand.send('b', 8)
  await stand.send('a', 3)
  const scaler = stand.scaler()
  for (const name of ['a', 'b']) scaler.watch(targetOf(name))
  await scaler.look()
  await stand.finishAll('b')
  await stand.send('b', 2)
  stand.now += WINDOW_MS - 1
  await scaler.look()
  stand.now += 1

  await scaler.look()

  expect(stand.meter.scaledBy).toEqual(['a 0 → 2 WokenUp', 'b 4 → 1 BacklogFell'])
})

it('an error of another kind is no reason to lose count either', async () => {
  const broken = { ...mailWith(stand.mail, {}), list: async () => Promise.reject(new KaosError('access_denied', 'no')) }
  stand.workloads.counts.set('default/a', 2)
  const scaler = stand.scaler({ mail: broken })
  scaler.watch(targetOf('a'))

  await scaler.look()

  expect(scaler.state(refOf('a'))).toMatchObject({ active: 'Unknown', why: 'BrokerUnavailable' })
  expect(stand.workloads.changes).toEqual([])
})

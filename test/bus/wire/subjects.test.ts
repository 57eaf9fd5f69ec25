import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  ANYBODY,
  agentParty,
  parseCallSubject,
  parseMailSubject,
  partyText,
  storeOf,
  streamNames,
  subjectsOf,
  toolParty,
  userParty,
} from '../../../bus/wire/subjects.ts'
import { effectOf, name, party, taskOf } from '../../support/arbitraries.ts'

const subjects = subjectsOf('default')

describe('mail subjects', () => {
  it('read back as they were written', () => {
    fc.assert(
      fc.property(name(), name(), name(), party(), effectOf(), taskOf(), (namespace, agent, from, sender, effect, task) => {
        const all = subjectsOf(namespace)
        expect(parseMailSubject(all.door(agent))).toEqual({ kind: 'task', agent, from: ANYBODY })
        expect(parseMailSubject(all.doorOf(agent, from))).toEqual({ kind: 'task', agent, from: userParty(from) })
        expect(parseMailSubject(all.start(agent, from, effect))).toEqual({
          kind: 'start',
          agent,
          from: agentParty(from),
          task: effect,
        })
        expect(parseMailSubject(all.reply(agent, sender, effect))).toEqual({ kind: 'reply', agent, from: sender, effect })
        expect(parseMailSubject(all.signal(agent, 'cancel', sender, task))).toEqual({
          kind: 'signal',
          agent,
          from: sender,
          verb: 'cancel',
          task,
        })
        expect(parseCallSubject(all.call(from, agent, effect))).toEqual({ from: agentParty(agent), effect })
      }),
    )
  })

  it('are none of the other subjects', () => {
    fc.assert(
      fc.property(name(), party(), effectOf(), (agent, to, effect) => {
        const others = [
          subjects.journal(agent, effect),
          subjects.blob(agentParty(agent), to, effect, 'f'.repeat(64), 0),
          subjects.call(agent, agent, effect),
          subjects.done(agent, effect),
          subjects.result(agent, 'key'),
          subjects.trace('f'.repeat(32), agent, effect),
          subjects.dead(to),
          subjects.ask(agent),
          subjects.progress('f'.repeat(32), agent, effect),
          subjects.host(agentParty(agent), 'h1'),
        ]
        for (const subject of others) expect(parseMailSubject(subject), subject).toBeUndefined()
        expect(parseCallSubject(subjects.start(agent, agent, effect))).toBeUndefined()
      }),
    )
  })

  const garbage = [
    '',
    '.',
    'kaos',
    '......',
    'kaos.default.agent.a',
    'kaos.default.agent.a.task.',
    'kaos.default.agent.a.task.x',
    'kaos.default.agent.a.task.user',
    'kaos.default.agent.a.task.user.',
    'kaos.default.agent.a.task.user.B',
    'kaos.default.agent.a.task.user.b.c',
    // The door is for people: an agent delegates, and then a limit of depth holds.
    'kaos.default.agent.a.task.agent.b',
    'kaos.default.agent.a.task.tool.b',
    'kaos.default.agent..task',
    'kaos.default.agent.A.task',
    'kaos.default.agent.*.task',
    'kaos..agent.a.task',
    'kaos.*.agent.a.task',
    'other.default.agent.a.task',
    'kaos.default.tool.a.task',
    'kaos.default.agent.a.mail',
    'kaos.default.agent.a.mail.start',
    'kaos.default.agent.a.mail.start.agent.b',
    'kaos.default.agent.a.mail.start.agent.b.x',
    'kaos.default.agent.a.mail.start.agent.b.a_k_0-0.x',
    // Only agents delegate.
    'kaos.default.agent.a.mail.start.user.b.a_k_0-0',
    'kaos.default.agent.a.mail.start.tool.b.a_k_0-0',
    // A child has its parent's effect for its id; a root task comes by the door, or its key would be taken.
    'kaos.default.agent.a.mail.start.agent.b.a_k',
    'kaos.default.agent.a.mail.reply.agent.b.a_k_0',
    'kaos.default.agent.a.mail.reply.agent.B.a_k_0-0',
    'kaos.default.agent.a.mail.reply.robot.b.a_k_0-0',
    'kaos.default.agent.a.mail.reply.agent.b.a_k_0-0.x',
    'kaos.default.agent.a.mail.signal.cancel.user.b',
    'kaos.default.agent.a.mail.signal.cancel.user.b.x',
    'kaos.default.agent.a.mail.signal..user.b.a_k',
    'kaos.default.agent.a.mail.signal.*.user.b.a_k',
    'kaos.default.agent.a.mail.signal.a b.user.b.a_k',
    'kaos.default.agent.a.mail.other.agent.b.a_k_0-0',
    'kaos.default.agent.a.journal.a_k',
    'kaos.default.agent.a.task\n',
    ' kaos.default.agent.a.task',
  ]
  for (const subject of garbage) {
    it(`are not read from ${JSON.stringify(subject)}`, () => expect(parseMailSubject(subject)).toBeUndefined())
  }

  const noCalls = [
    '',
    'kaos.default.agent.t.call.agent.a.a_k_0-0',
    'other.default.tool.t.call.agent.a.a_k_0-0',
    'kaos.default.tool.T.call.agent.a.a_k_0-0',
    'kaos.default.tool.t.done.agent.a.a_k_0-0',
    'kaos.default.tool.t.call.user.a.a_k_0-0',
    'kaos.default.tool.t.call.tool.a.a_k_0-0',
    'kaos.default.tool.t.call.agent.a.a_k',
    'kaos.default.tool.t.call.agent.a.a_k_0-0.x',
    'kaos.default.tool.t.call.agent.a.x',
  ]
  for (const subject of noCalls) {
    it(`of a tool server are not read from ${JSON.stringify(subject)}`, () => expect(parseCallSubject(subject)).toBeUndefined())
  }

  it('survive whatever tokens somebody invents', () => {
    const token = fc.oneof(
      fc.constantFrom(
        'kaos',
        'default',
        'agent',
        'tool',
        'user',
        'task',
        'mail',
        'start',
        'reply',
        'signal',
        'call',
        'a',
        'a_k_0-0',
        '',
        '*',
        '>',
      ),
      fc.string(),
    )
    fc.assert(
      fc.property(fc.array(token, { maxLength: 10 }), (tokens) => {
        const subject = tokens.join('.')
        const mail = parseMailSubject(subject)
        if (mail) {
          const [, namespace, , agent] = subject.split('.')
          const all = subjectsOf(namespace!)
          expect(mail.agent).toBe(agent)
          const written = {
            task: () =>
              partyText(mail.from) === partyText(ANYBODY)
                ? [all.door(agent!), all.doorOf(agent!, 'anybody')]
                : [all.doorOf(agent!, mail.from.name)],
            start: () => [all.start(agent!, mail.from.name, (mail as { task: string }).task)],
            reply: () => [all.reply(agent!, mail.from, (mail as { effect: string }).effect)],
            signal: () => [all.signal(agent!, (mail as { verb: string }).verb, mail.from, (mail as { task: string }).task)],
          }[mail.kind]()
          expect(written).toContain(subject)
        }
        parseCallSubject(subject)
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('subjects', () => {
  it('of a namespace that is no name are refused', () => {
    for (const namespace of ['', 'a.b', '*', 'A', 'a b']) expect(() => subjectsOf(namespace)).toThrow(/namespace/)
  })

  it('of an agent lie under its own root, and those of a tool under its own', () => {
    const agent = agentParty('a')
    const tool = toolParty('t')
    for (const subject of [
      subjects.door('a'),
      subjects.start('a', 'b', 'b_k_0-0'),
      subjects.journal('a', 'a_k'),
      subjects.blob(agent, tool, 'a_k', 'f', 0),
      subjects.host(agent, 'h1'),
    ])
      expect(subject.startsWith('kaos.default.agent.a.'), subject).toBe(true)
    for (const subject of [
      subjects.call('t', 'a', 'a_k_0-0'),
      subjects.done('t', 'a_k_0-0'),
      subjects.blob(tool, agent, 'a_k', 'f', 0),
      subjects.host(tool, 'h1'),
    ])
      expect(subject.startsWith('kaos.default.tool.t.'), subject).toBe(true)
  })

  it('put what a party keeps into its own stream', () => {
    expect(storeOf('n', agentParty('a'))).toBe(streamNames.agentJournal('n', 'a'))
    expect(storeOf('n', toolParty('t'))).toBe(streamNames.toolDone('n', 't'))
  })
})

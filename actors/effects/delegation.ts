/** The effect `delegate`: a task for another agent. The effect's id is the child's task id, so that the name reads as the tree. */
import { spanIdOf } from '../../bus/wire/ids.ts'
import type { Json } from '../../bus/wire/json.ts'
import type { StartBody } from '../../bus/wire/message.ts'
import { agentParty, type Subjects } from '../../bus/wire/subjects.ts'
import { traceHeaders } from '../../bus/wire/trace.ts'
import type { DelegateInput } from '../agent/calls.ts'
import type { MailEffect } from './effect.ts'

export function delegateEffect(subjects: Subjects): MailEffect {
  return {
    kind: 'mail',
    addressee: (input) => agentParty((input as unknown as DelegateInput).peer),
    message({ id, agent, task, input, trace }) {
      const { peer, task: text, context, limits, path } = input as unknown as DelegateInput
      const body: StartBody = { input: text, limits, path, ...(context.length > 0 && { context: context as unknown as Json }) }
      return {
        subject: subjects.start(peer, agent, id),
        id,
        headers: traceHeaders(trace, spanIdOf(trace.traceId, id)),
        body: JSON.stringify(body),
        overflow: { owner: agentParty(agent), to: agentParty(peer), task },
      }
    },
    stop({ id, agent, input, trace }) {
      const { peer } = input as unknown as DelegateInput
      return {
        subject: subjects.signal(peer, 'cancel', agentParty(agent), id),
        id: `${id}.cancel`,
        headers: traceHeaders(trace, spanIdOf(trace.traceId, id)),
        body: '',
      }
    },
  }
}

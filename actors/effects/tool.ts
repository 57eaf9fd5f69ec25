/** The effect `tool`: a call to a tool server, answered by mail. */
import { spanIdOf } from '../../bus/wire/ids.ts'
import type { CallBody } from '../../bus/wire/message.ts'
import { agentParty, type Subjects, toolParty } from '../../bus/wire/subjects.ts'
import { traceHeaders } from '../../bus/wire/trace.ts'
import type { ToolInput } from '../agent/calls.ts'
import type { MailEffect } from './effect.ts'

export function toolEffect(subjects: Subjects): MailEffect {
  return {
    kind: 'mail',
    addressee: (input) => toolParty((input as unknown as ToolInput).server),
    message({ id, agent, task, input, trace }) {
      const { server, tool, arguments: args, deadlineAt } = input as unknown as ToolInput
      const body: CallBody = { tool, arguments: args, ...(deadlineAt !== undefined && { deadlineAt }) }
      return {
        subject: subjects.call(server, agent, id),
        id,
        headers: traceHeaders(trace, spanIdOf(trace.traceId, id)),
        body: JSON.stringify(body),
        overflow: { owner: agentParty(agent), to: toolParty(server), task },
      }
    },
  }
}

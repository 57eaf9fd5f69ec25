/** What mail brings an actor to decide. */
import type { Input, StartInput } from '../../bus/wire/entry.ts'
import { KaosError, toFailure } from '../../bus/wire/errors.ts'
import { HOST_LIMITS, TASK_LIMITS } from '../../bus/wire/limits.ts'
import { limitsOf, type Mail } from '../../bus/wire/message.ts'
import type { Actor } from '../actor.ts'
import type { HostOptions } from '../runtime.ts'
import type { Cause } from './running.ts'

/** The input that mail brings. A start of an actor that is known already is not going to be decided, so it needs no definition. */
export async function causeOf(actor: Actor, mail: Mail, host: HostOptions, sentAt: number): Promise<Cause> {
  switch (mail.kind) {
    case 'task':
    case 'start': {
      const input: StartInput = actor.state
        ? { kind: 'start', input: mail.start.input, definition: null, limits: TASK_LIMITS, path: [] }
        : await startInput(mail, host, sentAt)
      return { id: mail.id, input, local: false }
    }
    case 'reply':
      return { id: mail.id, input: { effect: mail.effect, ...mail.reply } as Input, local: false }
    case 'signal':
      return { id: mail.id, input: { kind: 'signal', id: mail.id, name: mail.verb, data: mail.data }, local: false }
  }
}

/** What a new task begins with. Waits, by redelivery, for tool lists that are not announced yet. */
async function startInput(
  mail: Extract<Mail, { readonly kind: 'task' | 'start' }>,
  { agent, clock }: HostOptions,
  sentAt: number,
): Promise<StartInput> {
  const at = clock.now()
  const { input, session, limits, path, context } = mail.start
  const definition = await agent.definition().catch((error: unknown) => {
    if (!(error instanceof KaosError) || error.code !== 'tool_list_missing') throw error
    if (at - sentAt < HOST_LIMITS.toolListWaitMs) throw error
    return agent.withoutTools(toFailure(error))
  })
  return {
    kind: 'start',
    input,
    definition,
    limits: { ...TASK_LIMITS, ...limitsOf(limits, at) },
    path: mail.kind === 'start' ? (path ?? []) : [],
    ...(context !== undefined && mail.kind === 'start' && { context }),
    ...(session !== undefined && { session }),
    ...(mail.kind === 'start' && { parent: { agent: mail.from.name, effect: mail.effect! } }),
  }
}

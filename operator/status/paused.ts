/** The status of a resource that is paused: what it was before, and that nothing follows what is declared meanwhile. */
import { conditionOf, type Moment, nextConditions, type Statement, type Statements } from './conditions.ts'
import { phaseOf } from './reasons.ts'
import type { AnyStatus } from './transitions.ts'

const paused: Statement = {
  status: true,
  reason: 'Paused',
  message: 'nothing is done for it, nor is it scaled, until its annotation kaos.tools/paused is removed',
}

/**
 * A new generation is not carried out, so the observed one stays: whoever waits for it goes on waiting. One that is paused from its beginning is
 * not ready.
 */
export function pausedStatus<Status extends AnyStatus>(before: Status | undefined, moment: Moment): Status {
  const said = before?.conditions ?? []
  const isNew = !conditionOf(said, 'Ready')
  const statements: Statements = { ...(isNew && { Ready: { ...paused, status: false } }), Paused: paused }
  return {
    ...before,
    ...(isNew && { phase: phaseOf('Paused'), ready: false, message: paused.message }),
    conditions: nextConditions(said, statements, moment, said),
  } as Status
}

/** Tells of what a deleted resource leaves behind: in an Event, which the cluster forgets within hours, in the log, and as a count. */
import type { Logger } from '../../telemetry/log.ts'
import type { EventRecorder } from '../kube/events.ts'
import type { LeftBehind } from '../reconcile/streams.ts'
import type { EventReason } from '../status/reasons.ts'
import type { Metrics } from './metrics.ts'

export interface LeftBehindOptions {
  readonly recorder: Pick<EventRecorder, 'tell'>
  readonly metrics: Pick<Metrics, 'add'>
  readonly log: Logger
}

const tellings = {
  PodsLeft: { what: 'pods', line: 'pods of a deleted resource did not end in time' },
  StreamsLeft: { what: 'streams', line: 'a deleted resource has left its streams on the broker' },
} as const satisfies Readonly<Partial<Record<EventReason, object>>>

export function leftBehind({ recorder, metrics, log }: LeftBehindOptions): LeftBehind {
  return (object, reason, note) => {
    const { what, line } = tellings[reason]
    const { kind, metadata } = object
    recorder.tell(object, { type: 'Warning', reason, action: 'Reconcile', note })
    metrics.add('kaos_operator_left_behind_total', { what })
    log.warn({ kind, namespace: metadata.namespace, name: metadata.name, reason: note }, line)
  }
}

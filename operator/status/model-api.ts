/** The status of a ModelAPI. */
import type { ModelApiStatus } from '../../manifests/crd/status.ts'
import { modelApiPort } from '../desired/model-api.ts'
import { selectorText, serviceUrl } from '../desired/names.ts'
import type { ClusterModelApi } from '../desired/plan.ts'
import type { Moment, Statement } from './conditions.ts'
import { type Seen, sharedStatus } from './ready.ts'

export interface ModelApiSeen extends Omit<Seen, 'before' | 'isExternal' | 'asleep' | 'streams'> {
  readonly clusterDomain: string
  readonly status?: ModelApiStatus | undefined
}

export function modelApiStatus(api: ClusterModelApi, seen: ModelApiSeen, moment: Moment): ModelApiStatus {
  const { plan, clusterDomain, status } = seen
  const { metadata, spec } = api
  const isUnsupported = spec.mode === 'Hosted' && plan.telemetry.enabled
  const unsupported: Statement = {
    status: true,
    reason: 'HostedModel',
    message: 'telemetry is enabled, and an Ollama exports none',
  }
  const { phase, ...shared } = sharedStatus(
    { ...seen, plan: isUnsupported ? withoutTelemetry(plan) : plan, before: status?.conditions ?? [] },
    moment,
    { TelemetryUnsupported: isUnsupported ? unsupported : undefined },
  )
  return {
    ...shared,
    phase: phase === 'Waiting' ? 'Pending' : phase,
    endpoint: serviceUrl('ModelAPI', metadata, clusterDomain, modelApiPort(api)),
    selector: selectorText('ModelAPI', metadata.name),
  }
}

/** Nothing is exported, so it does not matter where to. */
function withoutTelemetry(plan: Seen['plan']): Seen['plan'] {
  const { url: _url, problem: _problem, ...telemetry } = plan.telemetry
  return { ...plan, telemetry }
}

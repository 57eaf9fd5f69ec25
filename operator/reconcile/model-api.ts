/** What one look at a ModelAPI does: children and status, from what is there now. It has no streams: models are asked over HTTP. */
import type { ModelApiStatus } from '../../manifests/crd/status.ts'
import type { Installation } from '../desired/installation.ts'
import { desiredModelApi } from '../desired/model-api.ts'
import type { ClusterModelApi } from '../desired/plan.ts'
import type { KubeClient } from '../kube/client.ts'
import type { KubeObject } from '../kube/object.ts'
import { withMissingMounts } from '../mounts.ts'
import { type Outcome, soonest } from '../queue.ts'
import type { Moment } from '../status/conditions.ts'
import { modelApiStatus } from '../status/model-api.ts'
import { readWorkload } from '../status/workload.ts'
import type { Children } from './children.ts'
import type { ClusterView } from './cluster-view.ts'
import { MODEL_APIS, SECRETS } from './kinds.ts'
import type { StatusWriter } from './status-writer.ts'
import { readModelApi } from './stored.ts'

export interface ModelApiReconcilerOptions {
  readonly installation: Installation
  readonly client: KubeClient
  readonly view: ClusterView
  readonly children: Children
  readonly statuses: StatusWriter
}

export class ModelApiReconciler {
  private readonly options: ModelApiReconcilerOptions

  constructor(options: ModelApiReconcilerOptions) {
    this.options = options
  }

  readonly reconcile = async (_key: string, object: KubeObject | undefined, signal: AbortSignal): Promise<Outcome> => {
    const { statuses } = this.options
    if (!object || object.metadata.deletionTimestamp !== undefined) return
    const stored = readModelApi(object)
    if ('problem' in stored) return statuses.writeUnreadable(MODEL_APIS, object, stored.problem, signal)
    return this.keep(object, stored.resource, signal)
  }

  readonly whilePaused = async (_key: string, object: KubeObject, signal: AbortSignal): Promise<Outcome> =>
    this.options.statuses.writePaused(MODEL_APIS, object, signal)

  private async keep(object: KubeObject, api: ClusterModelApi, signal: AbortSignal): Promise<Outcome> {
    const { installation, client, view, children, statuses } = this.options
    const configVersion = await this.configVersion(api, signal)
    const planned = desiredModelApi(api, { installation, configVersion })
    const { plan, deployment, retryAfterMs } = await children.carryOut(object, planned, { signal })
    const found = readWorkload(deployment, view.podsOf('ModelAPI', object))
    const workload = await withMissingMounts(found, deployment, { client, signal })
    const { clusterDomain } = installation
    const compose = (status: ModelApiStatus | undefined, moment: Moment) =>
      modelApiStatus(api, { plan, workload, clusterDomain, status }, moment)
    await statuses.write(MODEL_APIS, object, compose, signal)
    return soonest(retryAfterMs, workload.lookAgainMs)
  }

  /**
   * Of the Secret that holds the whole configuration, its version alone. It is the user's, so it is not among what is watched: a change of it is
   * seen at the next look, within ten minutes.
   */
  private async configVersion({ metadata, spec }: ClusterModelApi, signal: AbortSignal): Promise<string | undefined> {
    const name = spec.proxyConfig?.configYaml?.fromSecretKeyRef?.name
    if (name === undefined) return undefined
    const { items } = await this.options.client.list(
      SECRETS,
      { namespace: metadata.namespace, fieldSelector: `metadata.name=${name}`, isMetadataOnly: true },
      { signal },
    )
    return items[0]?.metadata.resourceVersion
  }
}

/** What one look at a ModelAPI does: children and status, from what is there now. It has no streams: models are asked over HTTP. */
import type { Installation } from '../desired/installation.ts'
import { desiredModelApi } from '../desired/model-api.ts'
import type { ClusterModelApi } from '../desired/plan.ts'
import type { KubeClient } from '../kube/client.ts'
import type { KubeObject } from '../kube/object.ts'
import type { Outcome } from '../queue.ts'
import { modelApiStatus } from '../status/model-api.ts'
import { unreadableStatus } from '../status/ready.ts'
import { readWorkload } from '../status/workload.ts'
import type { Children } from './children.ts'
import type { ClusterView } from './cluster-view.ts'
import { MODEL_APIS, SECRETS } from './kinds.ts'
import type { StatusWriter } from './status-writer.ts'
import { conditionsOf, modelApiStatusOf, readModelApi } from './stored.ts'

const REFUSED_AGAIN_MS = 60_000

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
    if (!object || object.metadata.deletionTimestamp !== undefined) return
    const { installation, view, children, statuses } = this.options
    const workload = (deployment: KubeObject | undefined) => readWorkload(deployment, view.podsOf('ModelAPI', object))
    const stored = readModelApi(object)
    if ('problem' in stored) {
      const seen = statuses.latest(object)
      const status = unreadableStatus(stored.problem, conditionsOf(seen), statuses.moment(seen))
      return statuses.write(MODEL_APIS, seen, status, signal)
    }
    const api = stored.resource
    const configVersion = await this.configVersion(api, signal)
    const planned = desiredModelApi(api, { installation, configVersion })
    const { plan, deployment, mayPass } = await children.carryOut(object, planned, { signal })
    const seen = statuses.latest(object)
    const { clusterDomain } = installation
    const status = modelApiStatus(
      api,
      { plan, workload: workload(deployment), clusterDomain, status: modelApiStatusOf(seen) },
      statuses.moment(seen),
    )
    await statuses.write(MODEL_APIS, seen, status, signal)
    return { afterMs: mayPass ? REFUSED_AGAIN_MS : undefined }
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

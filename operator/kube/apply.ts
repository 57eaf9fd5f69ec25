/**
 * Makes objects as intended, and writes nothing where they are already. The intent of the last apply stands as a hash in an annotation; with the
 * same intent, only a field of ours that somebody else has changed is worth a write.
 */
import { LRUCache } from 'lru-cache'
import { KaosError } from '../../bus/wire/errors.ts'
import { canonicalText, sha256 } from '../../bus/wire/json.ts'
import { isConflict, isNotFound, isOtherUid } from './api-error.ts'
import type { KubeClient, Written } from './client.ts'
import { controllerOf, type KubeObject, keyOf, type OwnerReference, type Resource } from './object.ts'
import { project } from './projection.ts'
import type { CallOptions } from './transport.ts'

export const FIELD_MANAGER = 'kaos-operator'
export const STATUS_MANAGER = 'kaos-operator-status'
/** Hash of what was last applied. Whoever removes it asks for a new apply. */
export const INTENT_ANNOTATION = 'kaos.tools/applied'

/** Kinds that must have a selector: that of another object differs from ours, which is a conflict. Any other may be merged with ours in silence. */
const CONFLICTING: readonly string[] = ['Deployment', 'NetworkPolicy']

/** Answers that are remembered: children and statuses of all resources. One that is forgotten costs at most a write that changes nothing. */
const ANSWERS_MAX = 20_000

/** What the server made of an intent: it may write a value in another form than we did, "1000m" as "1" say. */
interface Answer {
  readonly intent: string
  readonly uid: string | undefined
  readonly resourceVersion: string
  readonly projection: string
}

/** `object` is undefined where nothing was written. */
export interface Applied extends Omit<Written, 'object'> {
  readonly object: KubeObject | undefined
  readonly isCreated: boolean
}

const NOTHING: Applied = { object: undefined, isCreated: false, warnings: [] }

export class Applier {
  readonly #client: KubeClient
  readonly #answers = new LRUCache<string, Answer>({ max: ANSWERS_MAX })

  constructor(client: KubeClient) {
    this.#client = client
  }

  /**
   * `intent` is all that we want of the object, each time; a field that is no longer in it is deleted. `live` is the object as last seen.
   * Conflicts with others are decided in our favour, unless the object is none of ours: then nothing in it is changed. Rejects as the client does,
   * and with NameTakenError.
   */
  async apply(
    resource: Resource,
    intent: KubeObject,
    live: KubeObject | undefined,
    options: CallOptions & { readonly isDryRun?: boolean } = {},
  ): Promise<Applied> {
    if (!intent.metadata.name) {
      throw new KaosError('internal', `could not apply ${resource.kind}: field "metadata.name" is missing`)
    }
    const hash = hashOf(intent)
    const marked = withAnnotation(intent, hash)
    const id = `${resource.kind} ${keyOf(intent)}`
    const settled = this.#answers.get(id)
    if (
      live &&
      live.metadata.annotations?.[INTENT_ANNOTATION] === hash &&
      isSettled(settled, hash, live, projectionOf(live, marked))
    ) {
      return NOTHING
    }
    // What we last wrote has not come back to us yet, or nobody has written since: of a Secret that is watched without its content, that is all we see.
    if (live && settled?.intent === hash && settled.uid === live.metadata.uid && !isNewer(live, settled)) return NOTHING
    const written = await this.#take(resource, marked, live, options)
    if (!options.isDryRun) this.#answers.set(id, answerOf(written.object, hash, projectionOf(written.object, marked)))
    return { ...written, isCreated: live === undefined && settled?.uid !== written.object.metadata.uid }
  }

  /** An object that we see is ours already; before the first write somebody else's may be there. */
  async #take(
    resource: Resource,
    intent: KubeObject,
    live: KubeObject | undefined,
    options: CallOptions & { readonly isDryRun?: boolean },
  ): Promise<Written> {
    const write = (isForced: boolean) =>
      this.#client.apply(resource, intent, { ...options, fieldManager: FIELD_MANAGER, isForced })
    if (live) {
      await this.refuseForeign(resource, intent, live, options)
      return write(true)
    }
    if (!CONFLICTING.includes(resource.kind)) return write(await this.isOurs(resource, intent, options))
    try {
      return await write(false)
    } catch (error) {
      if (!isConflict(error) || !(await this.isOurs(resource, intent, options))) throw error
      return write(true)
    }
  }

  /**
   * Whether an object of this name is there; with another controller than `intent` names, or with none, it is somebody else's: NameTakenError. For
   * what is not among the objects that we see.
   */
  async isOurs(resource: Resource, intent: KubeObject, options: CallOptions): Promise<boolean> {
    const { name, namespace } = intent.metadata
    const selection = { namespace, fieldSelector: `metadata.name=${name}`, isMetadataOnly: true }
    const { items } = await this.#client.list(resource, selection, options)
    const [found] = items
    if (!found) return false
    await this.refuseForeign(resource, intent, found, options)
    if (controllerOf(intent) && !controllerOf(found)) throw new NameTakenError(resource, intent)
    return true
  }

  /**
   * Throws where `found` has another controller than `intent`. What an owner of the same name has left, that was deleted and made anew, is removed, as
   * the garbage collector will do some time: that is retryable.
   */
  async refuseForeign(resource: Resource, intent: KubeObject, found: KubeObject, options: CallOptions): Promise<void> {
    const [ours, other] = [controllerOf(intent), controllerOf(found)]
    if (!ours || !other || ours.uid === other.uid) return
    const isOfSameName = ours.kind === other.kind && ours.name === other.name && groupOf(ours) === groupOf(other)
    if (!isOfSameName) throw new NameTakenError(resource, intent)
    const { uid } = found.metadata
    await this.#client.delete(resource, found.metadata, { ...options, uid })
    const why = `there was still that of the ${other.kind} "${other.name}" of before`
    throw new KaosError('cluster_busy', `could not apply ${resource.kind} "${keyOf(intent)}": ${why}`)
  }

  /** `status` is the whole status of `live`, under a manager of its own. An object that is gone, or another of its name, is left alone. */
  async applyStatus(resource: Resource, live: KubeObject, status: object, options: CallOptions = {}): Promise<Applied> {
    const hash = hashOf(status)
    const id = `${resource.kind}/status ${keyOf(live)}`
    const answer = this.#answers.get(id)
    const now = hashOf(live.status ?? {})
    if (now === hash) return NOTHING
    if (answer?.intent === hash && answer.uid === live.metadata.uid && (answer.projection === now || !isNewer(live, answer)))
      return NOTHING
    const { name, namespace, uid } = live.metadata
    const metadata = { name, ...(namespace === undefined ? {} : { namespace }), ...(uid === undefined ? {} : { uid }) }
    const intent = { apiVersion: resource.apiVersion, kind: resource.kind, metadata, status }
    const how = { ...options, fieldManager: STATUS_MANAGER, isForced: true, subresource: 'status' } as const
    const written = await this.#client.apply(resource, intent, how).catch((error: unknown) => {
      if (isNotFound(error) || isOtherUid(error)) return undefined
      throw error
    })
    if (!written) return NOTHING
    this.#answers.set(id, answerOf(written.object, hash, hashOf(written.object.status ?? {})))
    return { ...written, isCreated: false }
  }

  /**
   * Deletes those of `found` that `owner` controls and that are not wanted any more. Whatever has another owner, or none, is left alone.
   * Returns what was deleted.
   */
  async prune(
    resource: Resource,
    owner: KubeObject,
    found: readonly KubeObject[],
    wanted: ReadonlySet<string>,
    options: CallOptions = {},
  ): Promise<readonly KubeObject[]> {
    const gone = found.filter(
      (object) =>
        controllerOf(object)?.uid === owner.metadata.uid &&
        object.metadata.deletionTimestamp === undefined &&
        !wanted.has(keyOf(object)),
    )
    const deleted: KubeObject[] = []
    for (const object of gone) {
      const { uid } = object.metadata
      if (await this.#client.delete(resource, object.metadata, { ...options, uid })) deleted.push(object)
    }
    return deleted
  }
}

/** A Kubernetes object of the name that we need is somebody else's. */
export class NameTakenError extends KaosError {
  constructor({ kind }: Resource, intent: KubeObject) {
    super('cluster_refused', `could not apply ${kind} "${keyOf(intent)}": an object of that name is there that is not ours`)
    this.name = 'NameTakenError'
  }
}

/** "apps" of "apps/v1", nothing of "v1": the same kind of two groups is two kinds, of two versions it is one. */
function groupOf({ apiVersion }: Pick<OwnerReference, 'apiVersion'>): string {
  return apiVersion.includes('/') ? apiVersion.slice(0, apiVersion.indexOf('/')) : ''
}

function isSettled(answer: Answer | undefined, hash: string, live: KubeObject, { intended, found }: Projection): boolean {
  if (found === intended) return true
  return answer?.intent === hash && answer.uid === live.metadata.uid && answer.projection === sha256(found)
}

interface Projection {
  readonly intended: string
  readonly found: string
}

function projectionOf(live: KubeObject, intent: KubeObject): Projection {
  return { intended: canonicalText(intent), found: canonicalText(project(live, intent)) }
}

function answerOf(object: KubeObject, intent: string, projection: Projection | string): Answer {
  const { uid, resourceVersion = '' } = object.metadata
  return { intent, uid, resourceVersion, projection: typeof projection === 'string' ? projection : sha256(projection.found) }
}

/** Versions of one object are numbers that grow. */
function isNewer(live: KubeObject, answer: Answer): boolean {
  return Number(live.metadata.resourceVersion) > Number(answer.resourceVersion)
}

function hashOf(intent: object): string {
  return sha256(canonicalText(intent)).slice(0, 32)
}

function withAnnotation(intent: KubeObject, hash: string): KubeObject {
  const annotations = { ...intent.metadata.annotations, [INTENT_ANNOTATION]: hash }
  return { ...intent, metadata: { ...intent.metadata, annotations } }
}

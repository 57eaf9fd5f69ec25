/**
 * Makes objects as intended, and writes nothing where they are already. The intent of the last apply stands as a hash in an annotation; with the
 * same intent, only a field of ours that somebody else has changed is worth a write.
 */
import { LRUCache } from 'lru-cache'
import { KaosError } from '../../bus/wire/errors.ts'
import { canonicalText, sha256 } from '../../bus/wire/json.ts'
import { isNotFound, isOtherUid } from './api-error.ts'
import type { KubeClient, Written } from './client.ts'
import { controllerOf, type KubeObject, keyOf, type Resource } from './object.ts'
import { project } from './projection.ts'
import type { CallOptions } from './transport.ts'

export const FIELD_MANAGER = 'kaos-operator'
export const STATUS_MANAGER = 'kaos-operator-status'
/** Hash of what was last applied. Whoever removes it asks for a new apply. */
export const INTENT_ANNOTATION = 'kaos.tools/applied'

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
   * Conflicts with others are decided in our favour. Rejects as the client does.
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
    const written = await this.#client.apply(resource, marked, { ...options, fieldManager: FIELD_MANAGER, isForced: true })
    if (!options.isDryRun) this.#answers.set(id, answerOf(written.object, hash, projectionOf(written.object, marked)))
    return { ...written, isCreated: live === undefined && settled?.uid !== written.object.metadata.uid }
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

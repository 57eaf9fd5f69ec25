/**
 * Volumes of a pod as folders of this machine. A process here sees the whole file system, so a mount is not made but translated: where
 * command, environment or working folder name a path under a mount, they get the path of the folder. A program with the path built in
 * does not find it. Contents are written once, when the pod begins.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { ContainerSpec, EnvironmentSources } from './environment.ts'
import { ContainerConfigError, fieldOf, readData } from './environment.ts'

interface Source {
  // biome-ignore lint/suspicious/noExplicitAny: a VolumeSource
  readonly [kind: string]: any
}

/** Writes all volumes under `folder`, each in one of its own. Rejects with ContainerConfigError. */
export async function writeVolumes(folder: string, sources: EnvironmentSources): Promise<void> {
  for (const { name, ...source } of sources.pod.spec.volumes ?? []) {
    const place = join(folder, name)
    await mkdir(place, { recursive: true })
    for (const [path, bytes] of await filesOf(source, sources)) {
      await mkdir(dirname(join(place, path)), { recursive: true })
      await writeFile(join(place, path), bytes)
    }
  }
}

/** A text with every path under a mount, or under one of `paths`, replaced by where it is on this machine; the longest one wins. */
export function pathTranslator(
  container: ContainerSpec,
  folder: string,
  paths: Readonly<Record<string, string>>,
): (text: string) => string {
  const mounts = (container.volumeMounts ?? []).map(({ mountPath, name, subPath = '' }: Record<string, string>) => {
    return [mountPath!.replace(/\/+$/, ''), join(folder, name!, subPath)] as const
  })
  const all = [...Object.entries(paths), ...(mounts as readonly (readonly [string, string])[])].sort(
    ([a], [b]) => b.length - a.length,
  )
  if (all.length === 0) return (text) => text
  const places = new Map(all)
  // Whole path segments only, and not in the middle of another path.
  const pattern = new RegExp(`(?<![\\w./-])(${all.map(([path]) => path.replace(/[^\w/-]/g, '\\$&')).join('|')})(?![\\w.-])`, 'g')
  return (text) => text.replace(pattern, (path) => places.get(path)!)
}

async function filesOf(source: Source, sources: EnvironmentSources): Promise<readonly (readonly [string, Buffer])[]> {
  const { configMap, secret, projected, downwardAPI, serviceAccountToken, emptyDir } = source
  if (emptyDir) return []
  if (configMap) return picked(await readData(sources, 'configmap', configMap), configMap.items)
  // A volume says `secretName`, a projection `name`.
  if (secret)
    return picked(await readData(sources, 'secret', { ...secret, name: secret.secretName ?? secret.name }), secret.items)
  if (downwardAPI) {
    return downwardAPI.items.map(({ path, fieldRef }: { path: string; fieldRef: { fieldPath: string } }) => {
      return [path, Buffer.from(fieldOf(fieldRef.fieldPath, sources))] as const
    })
  }
  if (serviceAccountToken) return [[serviceAccountToken.path, Buffer.from(await tokenFor(serviceAccountToken, sources))]]
  if (projected) {
    const parts = await Promise.all(projected.sources.map((part: Source) => filesOf(part, sources)))
    return parts.flat()
  }
  throw new ContainerConfigError(`volumes of kind "${Object.keys(source).join()}" are not known here`)
}

function picked(
  data: Record<string, Buffer> | undefined,
  items?: readonly { readonly key: string; readonly path: string }[],
): [string, Buffer][] {
  if (!data) return []
  if (!items) return Object.entries(data)
  return items.map(({ key, path }) => {
    const bytes = data[key]
    if (!bytes) throw new ContainerConfigError(`references non-existent config key: ${key}`)
    return [path, bytes]
  })
}

async function tokenFor(
  { audience, expirationSeconds }: { audience?: string; expirationSeconds?: number },
  sources: EnvironmentSources,
): Promise<string> {
  const { metadata, spec } = sources.pod
  const account = spec.serviceAccountName ?? 'default'
  const path = `/api/v1/namespaces/${metadata.namespace}/serviceaccounts/${account}/token`
  const body = {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    spec: {
      ...(audience ? { audiences: [audience] } : {}),
      expirationSeconds: expirationSeconds ?? 3_600,
      boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: metadata.name, uid: metadata.uid },
    },
  }
  const answer = await sources.api.request('POST', path, body)
  if (answer.code > 299) throw new ContainerConfigError(`could not get a token for "${account}": ${answer.body.message}`)
  return answer.body.status.token
}

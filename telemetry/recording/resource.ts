/** Who it is that sends: the resource of each service of the process. */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { arch, hostname } from 'node:os'
import { defaultResource, type Resource, resourceFromAttributes } from '@opentelemetry/resources'

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }

/** What all spans, metrics and log records of ours come from. */
export const SCOPE = { name: 'kaos-actors', version } as const

const INSTANCE = randomUUID()

/**
 * @param given OTEL_RESOURCE_ATTRIBUTES, which go before what is found out here. The arguments of the process are left out: they may hold secrets.
 */
export function createResource(name: string, namespace: string | undefined, given: { readonly [key: string]: string }): Resource {
  return defaultResource().merge(
    resourceFromAttributes({
      'service.version': version,
      'service.instance.id': INSTANCE,
      'host.name': hostname(),
      'host.arch': arch(),
      ...(namespace !== undefined && { 'service.namespace': namespace }),
      ...given,
      'service.name': name,
    }),
  )
}

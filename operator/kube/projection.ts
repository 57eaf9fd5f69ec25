/**
 * What an object holds of the fields that somebody intends, and nothing else. Two objects with the same projection differ only in what is
 * not intended: defaults, and fields of others. Pure.
 */

/** The lists that the server merges by key: an element of somebody else's in them is none of our business. Any other list is one value. */
const MERGE_KEYS: Readonly<Record<string, readonly string[]>> = {
  conditions: ['type'],
  containers: ['name'],
  env: ['name'],
  ephemeralContainers: ['name'],
  hostAliases: ['ip'],
  imagePullSecrets: ['name'],
  initContainers: ['name'],
  ownerReferences: ['uid'],
  ports: ['containerPort', 'port', 'protocol'],
  topologySpreadConstraints: ['topologyKey', 'whenUnsatisfiable'],
  volumeDevices: ['devicePath'],
  volumeMounts: ['mountPath'],
  volumes: ['name'],
}

/** Of the fields that a merge key may leave out: what the server takes then. */
const KEY_DEFAULTS: Readonly<Record<string, string>> = { protocol: 'TCP' }

/**
 * The part of `live` that `intent` names, in the form of `intent`. An intended field that is not there is left out; null and empty lists and
 * maps, which the server does not store, count as not there on either side.
 */
export function project(live: unknown, intent: unknown, field = ''): unknown {
  if (Array.isArray(intent)) return projectList(live, intent, field)
  if (!isRecord(intent)) return live
  if (!isRecord(live)) return isBlank(intent) ? intent : live
  const projected = Object.entries(intent).flatMap(([name, wanted]) => {
    if (isBlank(wanted) && isBlank(live[name])) return [[name, wanted] as const]
    return name in live ? [[name, project(live[name], wanted, name)] as const] : []
  })
  return Object.fromEntries(projected)
}

function projectList(live: unknown, intent: readonly unknown[], field: string): unknown {
  if (!Array.isArray(live)) return isBlank(intent) && isBlank(live) ? intent : live
  const keys = MERGE_KEYS[field]
  if (keys && intent.every(isRecord)) {
    const found = new Map(live.filter(isRecord).map((element) => [keyIn(element, keys), element]))
    return intent.flatMap((element) => {
      const other = found.get(keyIn(element, keys))
      return other ? [project(other, element)] : []
    })
  }
  // One value: also what somebody else added inside an element is a change of it.
  return isBlank(intent) && isBlank(live) ? intent : live
}

function keyIn(element: Readonly<Record<string, unknown>>, keys: readonly string[]): string {
  return JSON.stringify(keys.map((key) => element[key] ?? KEY_DEFAULTS[key] ?? null))
}

/** Absent, to a server that stores no empty value. An empty map may also say something (`emptyDir: {}`), and then it is there. */
function isBlank(value: unknown): boolean {
  if (value === null || value === undefined) return true
  if (Array.isArray(value)) return value.length === 0
  return isRecord(value) && Object.keys(value).length === 0
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

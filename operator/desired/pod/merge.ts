/**
 * Lays a `podSpec` of a resource over a generated one, as a strategic merge patch does: maps field by field, known lists by their
 * key.
 */

type Json = unknown
type Map = Readonly<Record<string, Json>>

/**
 * Lists whose elements are told apart by a field. All other lists are replaced as a whole, which is what the API server's own
 * rules say of them.
 */
const listKeys: Readonly<Record<string, string>> = {
  containers: 'name',
  initContainers: 'name',
  ephemeralContainers: 'name',
  env: 'name',
  volumes: 'name',
  volumeMounts: 'mountPath',
  volumeDevices: 'devicePath',
  ports: 'containerPort',
  imagePullSecrets: 'name',
  hostAliases: 'ip',
  topologySpreadConstraints: 'topologyKey',
}

/** A volume has one source: of two that are merged the API server would take neither. */
const replacedWhole = new Set(['volumes', 'env'])

/** `null` removes a field; `$patch: delete` removes an element, `$patch: replace` keeps nothing of what was there. */
export function mergePodSpec(base: Map, override: Map): Map {
  return mergeMaps(base, override)
}

function mergeMaps(base: Map, override: Map): Map {
  const { $patch: directive, ...fields } = override
  if (directive === 'replace') return fields
  const merged: Record<string, Json> = { ...base }
  for (const [name, value] of Object.entries(fields)) {
    if (value === null) delete merged[name]
    else merged[name] = mergeField(name, merged[name], value)
  }
  return merged
}

function mergeField(name: string, base: Json, override: Json): Json {
  if (isMap(override)) return mergeMaps(isMap(base) ? base : {}, override)
  const key = listKeys[name]
  if (key === undefined || !Array.isArray(override) || !override.every(isMap)) return override
  return mergeLists(name, key, Array.isArray(base) ? base.filter(isMap) : [], override)
}

function mergeLists(name: string, key: string, base: readonly Map[], override: readonly Map[]): readonly Map[] {
  const merged = override.some((element) => element.$patch === 'replace') ? [] : [...base]
  for (const element of override) {
    if (element.$patch === 'replace' && element[key] === undefined) continue
    const at = merged.findIndex((other) => other[key] === element[key])
    if (element.$patch === 'delete') {
      if (at >= 0) merged.splice(at, 1)
    } else if (at < 0) merged.push(mergeMaps({}, element))
    else merged[at] = mergeMaps(replacedWhole.has(name) ? {} : merged[at]!, element)
  }
  return merged
}

export function isMap(value: Json): value is Map {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

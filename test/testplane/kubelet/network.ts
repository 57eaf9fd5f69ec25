/**
 * Addresses and names for pods that are processes. Each pod has a loopback address of its own (127.x.y.z, Linux answers on all of them), so
 * that two pods may listen on port 8000; `preload.mjs` makes Node programs listen there and find Services by name. A name leads to the
 * ready pods themselves, so the port to ask is the target port.
 */
import { renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { ApiClient, OnChange } from '../api.ts'
import type { Pod } from './pods.ts'

const PRELOAD = pathToFileURL(join(import.meta.dirname, 'preload.mjs')).href
const NAMES_FILE = 'names.json'

let lastAddress = 0

/** Another block for each process, because several may run pods at the same time. */
function newAddress(): string {
  lastAddress += 1
  return `127.${64 + (process.pid % 128)}.${(lastAddress >> 8) & 255}.${lastAddress & 255}`
}

interface Member {
  readonly namespace: string
  readonly labels: Readonly<Record<string, string>>
  readonly ip: string
  readonly isReady: boolean
}

interface Service {
  readonly key: string
  readonly namespace: string
  readonly selector: Readonly<Record<string, string>>
  readonly isPublishedUnready: boolean
}

export class PodNetwork {
  /** Where every process of the machine is found, too. */
  readonly hostIp = '127.0.0.1'
  private readonly file: string
  private readonly names: Readonly<Record<string, string>>
  private readonly members = new Map<string, Member>()
  private services: readonly Service[] = []
  private written = ''

  /** `names`: further host names, such as `nats.kaos-system` with the address of a broker. */
  constructor(folder: string, names: Readonly<Record<string, string>>) {
    this.file = join(folder, NAMES_FILE)
    this.names = names
    this.write()
  }

  /** Follows the Services until the signal. */
  async follow(api: ApiClient, namespace: string | undefined, signal: AbortSignal): Promise<void> {
    const place = namespace === undefined ? '' : `/namespaces/${namespace}`
    const onChange: OnChange = (objects) => {
      this.services = [...objects.values()].map(({ metadata, spec }) => ({
        key: `${metadata.name}.${metadata.namespace}`,
        namespace: metadata.namespace!,
        selector: spec.selector ?? {},
        isPublishedUnready: spec.publishNotReadyAddresses === true,
      }))
      this.write()
    }
    await api.follow(`/api/v1${place}/services`, onChange, signal)
  }

  join(pod: Pod): string {
    const ip = newAddress()
    const { uid, namespace, labels = {} } = pod.metadata
    this.members.set(uid!, { namespace: namespace!, labels, ip, isReady: false })
    return ip
  }

  setReady(uid: string, isReady: boolean): void {
    const member = this.members.get(uid)
    if (!member || member.isReady === isReady) return
    this.members.set(uid, { ...member, isReady })
    this.write()
  }

  leave(uid: string): void {
    this.members.delete(uid)
    this.write()
  }

  /** What a process needs to be part of it. */
  variables(ip: string, namespace: string): Readonly<Record<string, string>> {
    return {
      NODE_OPTIONS: `--import ${PRELOAD}`,
      KAOS_TESTPLANE_POD_IP: ip,
      KAOS_TESTPLANE_NAMESPACE: namespace,
      KAOS_TESTPLANE_NAMES: this.file,
    }
  }

  private write(): void {
    const found: Record<string, readonly string[]> = {}
    for (const [name, address] of Object.entries(this.names)) found[name] = [address]
    for (const { key, namespace, selector, isPublishedUnready } of this.services) {
      const wanted = Object.entries(selector)
      if (wanted.length === 0) continue
      const members = [...this.members.values()].filter((member) => {
        if (member.namespace !== namespace || !(member.isReady || isPublishedUnready)) return false
        return wanted.every(([label, value]) => member.labels[label] === value)
      })
      found[key] ??= members.map(({ ip }) => ip)
    }
    const text = JSON.stringify(found)
    if (text === this.written) return
    this.written = text
    // Whole or not at all: programs read it at any moment.
    writeFileSync(`${this.file}.new`, text)
    renameSync(`${this.file}.new`, this.file)
  }
}

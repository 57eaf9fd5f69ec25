/** The API server's audit log: who asked what, one line per answer. The base of tests about rights and about the number of requests. */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { auditFile } from './parts.ts'

export interface AuditLine {
  /** ResponseStarted for a watch that begins, ResponseComplete for what has ended, Panic. */
  readonly stage: string
  readonly verb: string
  readonly requestURI: string
  readonly userAgent?: string
  readonly user: { readonly username: string; readonly groups?: readonly string[] }
  readonly objectRef?: {
    readonly resource?: string
    readonly subresource?: string
    readonly namespace?: string
    readonly name?: string
    readonly apiGroup?: string
    readonly apiVersion?: string
  }
  readonly responseStatus?: { readonly code?: number; readonly reason?: string }
  /** RFC 3339 with microseconds. */
  readonly requestReceivedTimestamp: string
  readonly annotations?: Readonly<Record<string, string>>
}

export interface AuditFilter {
  /** Bytes to skip: what `auditPosition` said. */
  readonly since?: number
  /** As the server names the user: `system:serviceaccount:<namespace>:<name>`. */
  readonly user?: string
  readonly namespace?: string
}

export async function auditPosition(folder: string): Promise<number> {
  return (await stat(auditFile(folder))).size
}

export async function readAudit(folder: string, { since = 0, user, namespace }: AuditFilter): Promise<readonly AuditLine[]> {
  const found: AuditLine[] = []
  for await (const text of createInterface({ input: createReadStream(auditFile(folder), { start: since }) })) {
    const line = lineOf(text)
    if (!line) continue
    if (user !== undefined && line.user.username !== user) continue
    if (namespace !== undefined && line.objectRef?.namespace !== namespace) continue
    found.push(line)
  }
  return found
}

/** Undefined for a line that is being written. */
function lineOf(text: string): AuditLine | undefined {
  try {
    return JSON.parse(text) as AuditLine
  } catch {
    return undefined
  }
}

/** What every kind has: its version, its name and namespace, and where it was read. */
import { z } from 'zod'

export const apiVersion = 'kaos.tools/v1alpha1'
export const namespaceDefault = 'default'
/** Agents and tool servers: their names are tokens of subjects and parts of ids, stream names and pod names. */
export const nameCharsMax = 40
/** ModelAPIs: `modelapi-<name>` names a Service, and that is a DNS label of at most 63 characters. */
export const modelApiNameCharsMax = 54
const namespaceCharsMax = 63

/** Where a resource was read, for messages and for what is relative to its folder. */
export interface Source {
  /** As it was given to the loader. */
  readonly file: string
  /** Counted from 1. */
  readonly line: number
}

export type DeepReadonly<T> = T extends readonly (infer Element)[]
  ? readonly DeepReadonly<Element>[]
  : T extends object
    ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> }
    : T

/** A resource as it is handed out: checked, every default filled in, and with the place where it stands. */
export type Declared<Resource> = DeepReadonly<Resource> & { readonly source: Source }

const writtenByServer = z.unknown().optional().describe('Written by the Kubernetes API server; ignored.')

export function resourceSchema<Kind extends string, Spec extends z.ZodType>(kind: Kind, charsMax: number, spec: Spec) {
  const metadata = z.strictObject({
    name: dnsLabel(charsMax).describe('Name, unique within its kind and namespace.'),
    namespace: dnsLabel(namespaceCharsMax)
      .default(namespaceDefault)
      .describe(`Namespace; all that a resource refers to lies in the same one. Default "${namespaceDefault}".`),
    labels: z.record(z.string(), z.string()).optional().describe('Labels, for selecting.'),
    annotations: z.record(z.string(), z.string()).optional().describe('Annotations, for other tools.'),
    creationTimestamp: writtenByServer,
    deletionGracePeriodSeconds: writtenByServer,
    deletionTimestamp: writtenByServer,
    finalizers: writtenByServer,
    generation: writtenByServer,
    managedFields: writtenByServer,
    ownerReferences: writtenByServer,
    resourceVersion: writtenByServer,
    selfLink: writtenByServer,
    uid: writtenByServer,
  })
  return z.strictObject({
    apiVersion: z.literal(apiVersion).describe('Version of this definition.'),
    kind: z.literal(kind).describe('What is declared.'),
    metadata: metadata.describe('Name, namespace, labels.'),
    spec: spec.describe('What is wanted.'),
    status: z.unknown().optional().describe('Written by the operator; ignored when it is read from a file.'),
  })
}

function dnsLabel(charsMax: number) {
  const error = `lower-case letters, digits and "-", not at the ends, at most ${charsMax} characters`
  return z
    .string()
    .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, { error })
    .max(charsMax, { error })
}

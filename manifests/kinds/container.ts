/** What a resource may say about its pod: container, whole pod specification, HTTP route. Named and shaped as Kubernetes does. */
import { z } from 'zod'
import { argumentsMax, environmentMax, list, mapOf, mountsMax, name, objectNameCharsMax, pathCharsMax, text } from '../bounds.ts'

const imageCharsMax = 1_024

const openObject = z.record(z.string(), z.unknown())
const QUANTITY =
  /^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$/
const quantity = z.union([z.string().regex(QUANTITY), z.int()], {
  error: 'a quantity such as 100m, 0.5 (in quotes), 2 or 128Mi',
})
const quantities = z.record(z.string(), quantity)

/** A key in a Secret or ConfigMap of the same namespace. */
export const keyRefSchema = z.strictObject({
  name: text(objectNameCharsMax)
    .regex(/^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$/, {
      error: 'the name of a Secret or ConfigMap: lower-case letters, digits, "-" and "."',
    })
    .describe('Name of the Secret or ConfigMap.'),
  key: text(objectNameCharsMax)
    .regex(/^[-._a-zA-Z0-9]+$/, { error: 'a key of a Secret or ConfigMap: letters, digits, "-", "_" and "."' })
    .describe('Key within it.'),
  optional: z.boolean().optional().describe('Whether it may be missing. Unset: it must exist.'),
})

const envVarSchema = z.strictObject({
  name: name().describe('Name of the variable.'),
  value: text().optional().describe('Its value.'),
  valueFrom: openObject
    .optional()
    .describe('Where its value comes from: secretKeyRef, configMapKeyRef, fieldRef or resourceFieldRef.'),
})

const claimSchema = z.looseObject({ name: name().describe('Name of a resource claim of podSpec.') })

const volumeMountSchema = z.looseObject({
  name: name().describe('Name of a volume of podSpec.'),
  mountPath: name(pathCharsMax).describe('Where the container sees it.'),
})

export const containerSchema = z.strictObject({
  image: name(imageCharsMax).optional().describe('Image of the container. Unset: the image of the installation.'),
  command: list(text(), argumentsMax).optional().describe('Replaces the entry point of the image.'),
  args: list(text(), argumentsMax).optional().describe('Replaces the arguments.'),
  env: mapOf(envVarSchema, 'name', environmentMax)
    .optional()
    .describe('Environment variables; they win over those that the operator sets.'),
  resources: z
    .strictObject({
      requests: quantities.optional().describe('What is reserved, such as cpu: 100m or memory: 128Mi.'),
      limits: quantities.optional().describe('What may be used at most.'),
      claims: mapOf(claimSchema, 'name', mountsMax).optional().describe('Resource claims of the pod.'),
    })
    .optional()
    .describe('CPU and memory of the container.'),
  securityContext: openObject.optional().describe('Security context of the container.'),
  workingDir: text(pathCharsMax).optional().describe('Working directory of the container.'),
  volumeMounts: mapOf(volumeMountSchema, 'mountPath', mountsMax)
    .optional()
    .describe('Volumes of podSpec that the container sees.'),
})

/** A whole Kubernetes PodSpec. It is open: the API server checks it when the pod is created. */
export const podSpecSchema = openObject

export const gatewayRouteSchema = z.strictObject({
  timeout: text(objectNameCharsMax)
    .regex(/^([0-9]+(h|m|s|ms)){1,4}$/, { error: 'a duration such as "30s", "5m" or "1h30m"; "0s" is unlimited' })
    .optional()
    .describe(
      'Longest time for one request, such as "30s" or "5m"; "0s" is unlimited. Unset: as set for the whole installation.',
    ),
})

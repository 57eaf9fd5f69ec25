/** What a resource may say about its pod: container, whole pod specification, HTTP route. Named and shaped as Kubernetes does. */
import { z } from 'zod'

const openObject = z.record(z.string(), z.unknown())
const quantities = z.record(z.string(), z.union([z.string(), z.number()]))

/** A key in a Secret or ConfigMap of the same namespace. */
export const keyRefSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$/, {
      error: 'the name of a Secret or ConfigMap: lower-case letters, digits, "-" and "."',
    })
    .describe('Name of the Secret or ConfigMap.'),
  key: z
    .string()
    .regex(/^[-._a-zA-Z0-9]+$/, { error: 'a key of a Secret or ConfigMap: letters, digits, "-", "_" and "."' })
    .describe('Key within it.'),
  optional: z.boolean().optional().describe('Whether it may be missing. Unset: it must exist.'),
})

const envVarSchema = z.strictObject({
  name: z.string().min(1).describe('Name of the variable.'),
  value: z.string().optional().describe('Its value.'),
  valueFrom: openObject
    .optional()
    .describe('Where its value comes from: secretKeyRef, configMapKeyRef, fieldRef or resourceFieldRef.'),
})

export const containerSchema = z.strictObject({
  image: z.string().min(1).optional().describe('Image of the container. Unset: the image of the installation.'),
  command: z.array(z.string()).optional().describe('Replaces the entry point of the image.'),
  args: z.array(z.string()).optional().describe('Replaces the arguments.'),
  env: z.array(envVarSchema).optional().describe('Environment variables; they win over those that the operator sets.'),
  resources: z
    .strictObject({
      requests: quantities.optional().describe('What is reserved, such as cpu: 100m or memory: 128Mi.'),
      limits: quantities.optional().describe('What may be used at most.'),
      claims: z.array(openObject).optional().describe('Resource claims of the pod.'),
    })
    .optional()
    .describe('CPU and memory of the container.'),
  securityContext: openObject.optional().describe('Security context of the container.'),
  workingDir: z.string().optional().describe('Working directory of the container.'),
  volumeMounts: z.array(openObject).optional().describe('Volumes of podSpec that the container sees.'),
})

/** A whole Kubernetes PodSpec. It is open: the API server checks it when the pod is created. */
export const podSpecSchema = openObject

export const gatewayRouteSchema = z.strictObject({
  timeout: z
    .string()
    .regex(/^([0-9]+(h|m|s|ms)){1,4}$/, { error: 'a duration such as "30s", "5m" or "1h30m"; "0s" is unlimited' })
    .optional()
    .describe(
      'Longest time for one request, such as "30s" or "5m"; "0s" is unlimited. Unset: as set for the whole installation.',
    ),
})

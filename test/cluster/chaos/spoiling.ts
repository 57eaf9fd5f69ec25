/** What somebody else does to children: the body of a merge patch. Only fields that the operator has set, for what it has not is left alone. */
import { LITELLM_KEY } from '../../../operator/desired/litellm.ts'
import { MANIFEST_KEY } from '../../../operator/desired/manifest.ts'
import { API_KEY, containerName, MANAGED_BY_LABEL, type OwnedKind } from '../../../operator/desired/names.ts'
import { INTENT_ANNOTATION } from '../../../operator/kube/apply.ts'
import type { Child, Spoiling } from './steps.ts'

export function spoiled(child: Child, how: Exclude<Spoiling, 'gone'>): unknown {
  switch (how) {
    case 'applied':
      return { metadata: { annotations: { [INTENT_ANNOTATION]: null } } }
    case 'label':
      return { metadata: { labels: { [MANAGED_BY_LABEL]: null } } }
    case 'owner':
      return { metadata: { ownerReferences: null } }
    case 'fields':
      return fieldsOf(child)
  }
}

function fieldsOf({ kind, name }: Child): unknown {
  switch (kind) {
    case 'Deployment': {
      const container = { name: containerName(ownerKind(name)), image: 'spoiled.test/image:1' }
      return { spec: { replicas: 4, template: { spec: { terminationGracePeriodSeconds: 1, containers: [container] } } } }
    }
    case 'Service':
      return { spec: { selector: { app: 'spoiled' } } }
    case 'ConfigMap':
      return { data: { [ownerKind(name) === 'ModelAPI' ? LITELLM_KEY : MANIFEST_KEY]: 'spoiled' } }
    case 'ServiceAccount':
      return { automountServiceAccountToken: true }
    case 'PodDisruptionBudget':
      return { spec: { maxUnavailable: 3 } }
    case 'Secret':
      // The random one is never read again, so nobody can know what was in it.
      return name.endsWith(API_KEY) ? { data: { [API_KEY]: 'c3BvaWxlZA==' } } : { metadata: { labels: { app: 'spoiled' } } }
  }
}

function ownerKind(name: string): OwnedKind {
  if (name.startsWith('agent-')) return 'Agent'
  return name.startsWith('mcpserver-') ? 'MCPServer' : 'ModelAPI'
}

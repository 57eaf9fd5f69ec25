/** Checks structured results against the schemas that the tools of one list declare for them. Schemas are compiled at their first use. */
import { AjvJsonSchemaValidator } from '@modelcontextprotocol/sdk/validation/ajv'
import type { ToolDescription } from '../bus/wire/catalog.ts'
import type { Logger } from '../telemetry/log.ts'

type Validator = ReturnType<AjvJsonSchemaValidator['getValidator']>

export class OutputCheck {
  private readonly log: Logger
  private readonly validators = new Map<string, Validator>()
  // One per list: it keeps schemas by their $id, and a changed list may give an id to another schema.
  private schemas: AjvJsonSchemaValidator | undefined

  constructor(log: Logger) {
    this.log = log
  }

  /** What is wrong, undefined if nothing. `content` is undefined where the tool sent no structured result. */
  mistakeIn(tool: ToolDescription, content: unknown): string | undefined {
    if (!tool.outputSchema) return undefined
    if (content === undefined) return 'the structured result is missing'
    const validate = this.validators.get(tool.name) ?? this.compile(tool)
    const { valid, errorMessage } = validate(content)
    return valid ? undefined : errorMessage?.slice(0, 500)
  }

  private compile(tool: ToolDescription): Validator {
    this.schemas ??= new AjvJsonSchemaValidator()
    let validator: Validator
    try {
      validator = this.schemas.getValidator(tool.outputSchema!)
    } catch (error) {
      this.log.warn(
        { tool: tool.name, reason: (error as Error).message },
        'an output schema cannot be compiled; results are not checked',
      )
      validator = (input) => ({ valid: true, data: input as never, errorMessage: undefined })
    }
    this.validators.set(tool.name, validator)
    return validator
  }
}

/** The trace of the sample newsroom.yaml, three levels deep, as a backend has to show it wherever its agents run. */
export const NEWSROOM_TASK = 'An article about city bikes'

export const NEWSROOM_TREE = `
planner: agent.process_message [CONSUMER] OK
  planner: model.inference [CLIENT] OK
  planner: delegate.writer [CLIENT] OK
    writer: agent.process_message [CONSUMER] OK
      writer: model.inference [CLIENT] OK
      writer: delegate.reviewer [CLIENT] OK
        reviewer: agent.process_message [CONSUMER] OK
          reviewer: model.inference [CLIENT] OK
      writer: model.inference [CLIENT] OK
  planner: model.inference [CLIENT] OK`.trim()

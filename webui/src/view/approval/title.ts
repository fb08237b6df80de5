import { ELICITATION } from "../../conversation/elicitation";
import { record, text } from "../../conversation/reading";
import type { Approval } from "../../store/approvals";
import { visible } from "../../text/visible";
import { subjectOf, toolOf } from "../tool/tool";

/** In a line: what is asked for. */
export function titleOf({ request }: Approval): string {
  switch (request.tool_name) {
    case "AskUserQuestion":
      return "The agent has a question";
    case ELICITATION:
      return `${visible(text(record(request.input)["mcp_server_name"]))} has a question`;
    case "ExitPlanMode":
      return "The agent has a plan";
    case "Bash":
      return "Run this command?";
    case "Edit":
    case "MultiEdit":
    case "Write":
    case "NotebookEdit": {
      const verb = request.tool_name === "Write" ? "Write" : "Edit";
      const path = subjectOf(request.tool_name, record(request.input));
      return `${verb} ${path.slice(path.lastIndexOf("/") + 1)}?`;
    }
    default:
      return `Use ${toolOf(request.tool_name).label}?`;
  }
}

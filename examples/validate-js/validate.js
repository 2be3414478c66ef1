// Lets through the events that fit a schema, and turns the others into dead letters that say everything that is wrong with them.

import Ajv from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { log, Reject, send } from "sandhog";
import schemas from "./schemas.json" with { type: "json" };

const SHOWN = 10;

// This runs once, when the component is built: what it carries are the compiled schemas.
const ajv = new Ajv({ allErrors: true });
addFormats(ajv);
const validators = new Map(Object.entries(schemas).map(([type, schema]) => [type, ajv.compile(schema)]));

/**
 * @param {import("sandhog").Message} message
 */
export default function handle(message) {
    const event = message.json();
    const type = message.attribute("type") ?? event?.type;
    const validate = validators.get(type);
    if (!validate) {
        throw new Reject(`there is no schema for ${type === undefined ? "an event without a type" : `events of type ${type}`}`);
    }
    if (!validate(event)) {
        throw new Reject(complaint(validate.errors));
    }
    send("valid", { body: message.body, attributes: { type }, groupId: message.groupId, deduplicationId: message.id });
    log.debug(`a valid ${type}`);
}

/** @param {import("ajv").ErrorObject[]} errors */
function complaint(errors) {
    const texts = errors.map(({ instancePath, message, params }) => {
        const extra = params.additionalProperty ?? params.allowedValues?.join(", ");
        return `${instancePath || "the event"} ${message}${extra === undefined ? "" : ` (${extra})`}`;
    });
    const more = texts.length > SHOWN ? [`and ${texts.length - SHOWN} more`] : [];
    return [...texts.slice(0, SHOWN), ...more].join("; ");
}

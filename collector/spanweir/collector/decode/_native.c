/* The native twin of `otlp_proto`: the wire format of a request of traces or logs as `RawSpan` or `RawLog` values.
 *
 * Nobody has looked at the body before: what protobuf refuses is not read here either. What is rare is not repeated: a
 * group, a submessage that stands twice and would have to be merged, an AnyValue with more than one field, and whatever
 * is unexpected end the walk without an exception set, and None is answered. The Python twin then does the whole request,
 * with protobuf; it is the specification.
 *
 * As in protobuf, a known field of another wire type than declared is an unknown one and is passed over, and of a field
 * that stands twice the last one counts. A message's depth is how many it is in. A function that answers NULL or -1 has
 * set an exception, or ends the walk.
 *
 * Not here: resources, scopes and what is wrong with a span's ids or a record's keys (Python's, by callback), repairs.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#ifndef SOURCE_DIGEST
#define SOURCE_DIGEST ""
#endif

#ifdef WORDS_BIGENDIAN
#error "numbers are copied as they stand in the body, which is little-endian"
#endif

typedef struct {
    const uint8_t *at, *end;
} Slice;

enum { VARINT = 0, I64 = 1, LEN = 2, I32 = 5, NOT_SENT = 8 };

typedef struct {
    uint32_t tag;    /* number << 3 | wire type; 0 where there is no such field */
    uint64_t number; /* of all wire types but LEN */
    Slice bytes;     /* of LEN */
} Field;

/* How an attribute of a struct is made of a field. */
typedef enum {
    NOTHING, TEXT, NAME, HEX, TRACE_ID, LOG_TRACE_ID, LOG_SPAN_ID, INT32, UINT32, UINT64, VALUE, PAIRS, EVENTS, LINKS,
    STATUS, RESOURCE, SCOPE
} Kind;

typedef struct {
    int wire;
    Kind kind;
    const char *name; /* of the attribute */
} Row;

/* The messages that become structs, each field at its number in OTLP (trace.proto, logs.proto). What is not sent as a
 * field of theirs stands behind: those of a span's Status from OF_STATUS on, then what neighbours share. */
enum { OF_STATUS = 16, MOST = 22 };

static const Row SPAN[MOST] = {
    [1] = {LEN, TRACE_ID, "trace_id"},
    [2] = {LEN, HEX, "span_id"},
    [3] = {LEN, TEXT, "trace_state"},
    [4] = {LEN, HEX, "parent_id"},
    [5] = {LEN, NAME, "name"},
    [6] = {VARINT, INT32, "kind"},
    [7] = {I64, UINT64, "start_ns"},
    [8] = {I64, UINT64, "end_ns"},
    [9] = {LEN, PAIRS, "attributes"},
    [10] = {VARINT, UINT32, "dropped_attributes_count"},
    [11] = {LEN, EVENTS, "events"},
    [12] = {VARINT, UINT32, "dropped_events_count"},
    [13] = {LEN, LINKS, "links"},
    [14] = {VARINT, UINT32, "dropped_links_count"},
    [15] = {LEN, STATUS, NULL},
    [16] = {I32, UINT32, "flags"},
    [OF_STATUS + 2] = {NOT_SENT, TEXT, "status_message"},
    [OF_STATUS + 3] = {NOT_SENT, INT32, "status_code"},
    [20] = {NOT_SENT, RESOURCE, "resource"},
    [21] = {NOT_SENT, SCOPE, "scope"},
};

static const Row STATUS_ROWS[MOST] = {[2] = {LEN, TEXT, NULL}, [3] = {VARINT, INT32, NULL}};

static const Row EVENT[MOST] = {
    [1] = {I64, UINT64, "time_ns"},
    [2] = {LEN, NAME, "name"},
    [3] = {LEN, PAIRS, "attributes"},
    [4] = {VARINT, UINT32, "dropped_attributes_count"},
};

static const Row LOG[MOST] = {
    [1] = {I64, UINT64, "time_ns"},
    [2] = {VARINT, INT32, "severity_number"},
    [3] = {LEN, NAME, "severity_text"},
    [5] = {LEN, VALUE, "body"},
    [6] = {LEN, PAIRS, "attributes"},
    [7] = {VARINT, UINT32, "dropped_attributes_count"},
    [8] = {I32, UINT32, "flags"},
    [9] = {LEN, LOG_TRACE_ID, "trace_id"},
    [10] = {LEN, LOG_SPAN_ID, "span_id"},
    [11] = {I64, UINT64, "observed_ns"},
    [12] = {LEN, NAME, "event_name"},
    [20] = {NOT_SENT, RESOURCE, "resource"},
    [21] = {NOT_SENT, SCOPE, "scope"},
};

static const Row LINK[MOST] = {
    [1] = {LEN, HEX, "trace_id"},
    [2] = {LEN, HEX, "span_id"},
    [3] = {LEN, TEXT, "trace_state"},
    [4] = {LEN, PAIRS, "attributes"},
    [5] = {VARINT, UINT32, "dropped_attributes_count"},
    [6] = {I32, UINT32, "flags"},
};

/* The messages around and below them, by tags; those around are alike for traces and logs: what ResourceSpans and
 * ScopeSpans, or ResourceLogs and ScopeLogs, share (a resource or scope), their parts, and a schema's URL. */
enum { RESOURCES = 1 << 3 | LEN, SHARED = 1 << 3 | LEN, PARTS = 2 << 3 | LEN, SCHEMA_URL = 3 << 3 | LEN };
enum { PAIR_KEY = 1 << 3 | LEN, PAIR_VALUE = 2 << 3 | LEN };
enum { VALUES = 1 << 3 | LEN }; /* of ArrayValue and of KeyValueList */
enum {
    STRING_VALUE = 1 << 3 | LEN,
    BOOL_VALUE = 2 << 3 | VARINT,
    INT_VALUE = 3 << 3 | VARINT,
    DOUBLE_VALUE = 4 << 3 | I64,
    ARRAY_VALUE = 5 << 3 | LEN,
    KVLIST_VALUE = 6 << 3 | LEN,
    BYTES_VALUE = 7 << 3 | LEN,
    STRING_VALUE_STRINDEX = 8 << 3 | VARINT,
};

/* What protobuf looks at in each message: texts, and further messages. Whatever else is sent with a length may be any
 * bytes, also in fields that this version does not know. */
enum {
    ANY_BYTES, A_TEXT, A_TRACE_ID, A_SPAN_ID, A_VALUE, AN_ARRAY, A_KVLIST, A_PAIR, AN_ENTITY, A_RESOURCE, A_SCOPE,
    AN_EVENT, A_LINK, A_STATUS, A_SPAN, SCOPE_SPANS, RESOURCE_SPANS, SOME_TRACES, A_RECORD, SCOPE_LOGS, RESOURCE_LOGS,
    SOME_LOGS, PARTS_KNOWN
};
static const uint8_t INSIDE[PARTS_KNOWN][16] = {
    [A_VALUE] = {[1] = A_TEXT, [5] = AN_ARRAY, [6] = A_KVLIST},
    [AN_ARRAY] = {[1] = A_VALUE},
    [A_KVLIST] = {[1] = A_PAIR},
    [A_PAIR] = {[1] = A_TEXT, [2] = A_VALUE},
    [AN_ENTITY] = {[1] = A_TEXT, [2] = A_TEXT, [3] = A_TEXT, [4] = A_TEXT},
    [A_RESOURCE] = {[1] = A_PAIR, [3] = AN_ENTITY},
    [A_SCOPE] = {[1] = A_TEXT, [2] = A_TEXT, [3] = A_PAIR},
    [AN_EVENT] = {[2] = A_TEXT, [3] = A_PAIR},
    [A_LINK] = {[3] = A_TEXT, [4] = A_PAIR},
    [A_STATUS] = {[2] = A_TEXT},
    [A_SPAN] = {[1] = A_TRACE_ID, [2] = A_SPAN_ID, [3] = A_TEXT, [5] = A_TEXT, [9] = A_PAIR, [11] = AN_EVENT,
                [13] = A_LINK, [15] = A_STATUS},
    [SCOPE_SPANS] = {[1] = A_SCOPE, [2] = A_SPAN, [3] = A_TEXT},
    [RESOURCE_SPANS] = {[1] = A_RESOURCE, [2] = SCOPE_SPANS, [3] = A_TEXT},
    [SOME_TRACES] = {[1] = RESOURCE_SPANS},
    [A_RECORD] = {[3] = A_TEXT, [5] = A_VALUE, [6] = A_PAIR, [12] = A_TEXT},
    [SCOPE_LOGS] = {[1] = A_SCOPE, [2] = A_RECORD, [3] = A_TEXT},
    [RESOURCE_LOGS] = {[1] = A_RESOURCE, [2] = SCOPE_LOGS, [3] = A_TEXT},
    [SOME_LOGS] = {[1] = RESOURCE_LOGS},
};

enum { DEEPEST = 100 };                    /* protobuf's own limit of nesting */
enum { KNOWN = 1024, LONGEST_KNOWN = 64 }; /* texts remembered, and their bytes at most */

typedef struct {
    const Row *rows;
    int depth;
    PyObject *type, *names; /* the struct, and the names of its arguments */
} Shape;

typedef struct {
    Shape span, event, link, log;
    PyObject *known[KNOWN]; /* ASCII texts by their hash; the last one stays */
} State;

typedef struct {
    State *state;
    const Shape *shape;                      /* of what is looked for: spans or log records */
    PyObject *resource_of, *scope_of, *flag; /* Python's */
    PyObject *found, *resource, *scope;      /* where the walk is */
    Slice trace;                             /* the last trace id */
    PyObject *trace_text;
} Walk;

/* A message as it was read: the last field of each number, and what the repeated ones became. */
typedef struct {
    Field fields[MOST];
    int depth;
    Py_ssize_t pairs;
    PyObject *attributes, *events, *links;
} Message;

/* A number of at most 64 bits, or of the 32 that tags and lengths have: protobuf takes no more bytes than they need. */
static int read_varint(Slice *rest, int bits, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < bits && rest->at < rest->end; shift += 7) {
        uint8_t byte = *rest->at++;
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return 1;
    }
    return -1;
}

static inline int read_short_varint(Slice *rest, int bits, uint64_t *value) {
    if (rest->at >= rest->end || *rest->at >= 0x80) /* most have one byte */
        return read_varint(rest, bits, value);
    *value = *rest->at++;
    return 1;
}

static inline int read_fixed(Slice *rest, size_t size, uint64_t *value) {
    if ((size_t)(rest->end - rest->at) < size) return -1;
    *value = 0;
    memcpy(value, rest->at, size);
    rest->at += size;
    return 1;
}

/* The next field of a message: 1, or 0 at its end, or -1. */
static inline int next_field(Slice *rest, Field *field) {
    uint64_t tag, length;
    if (rest->at >= rest->end) return 0;
    if (read_short_varint(rest, 32, &tag) < 0 || tag > UINT32_MAX || tag < 1 << 3) return -1;
    field->tag = (uint32_t)tag;
    switch (tag & 7) {
    case LEN:
        if (read_short_varint(rest, 32, &length) < 0 || length > (uint64_t)(rest->end - rest->at)) return -1;
        field->bytes = (Slice){rest->at, rest->at + length};
        rest->at += length;
        return 1;
    case VARINT:
        return read_short_varint(rest, 64, &field->number);
    case I64:
        return read_fixed(rest, 8, &field->number);
    case I32:
        return read_fixed(rest, 4, &field->number);
    default:
        return -1;
    }
}

static int is_id(Slice id, int length) {
    int set = 0;
    for (const uint8_t *at = id.at; at < id.end; at++) set |= *at;
    return set && id.end - id.at == length;
}

/* One character of more than one byte: how many, or 0 where there is none (Unicode, table 3-7). */
static int character_bytes(const uint8_t *at, const uint8_t *end) {
    int first = *at, most = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (first < 0xC2 || first > 0xF4 || end - at < most) return 0;
    int low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    int high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (at[1] < low || at[1] > high) return 0;
    for (int i = 2; i < most; i++)
        if ((at[i] & 0xC0) != 0x80) return 0;
    return most;
}

static int is_ascii(Slice text) {
    const uint64_t NOT_ASCII = 0x8080808080808080u;
    uint64_t words[4], all = 0;
    Py_ssize_t length = text.end - text.at;
    if (length < 8) {
        while (text.at < text.end) all |= *text.at++;
        return (all & 0x80) == 0;
    }
    memcpy(words, text.end - 8, 8);
    all = words[0];
    for (; text.end - text.at >= (Py_ssize_t)sizeof words; text.at += sizeof words) {
        memcpy(words, text.at, sizeof words);
        all |= words[0] | words[1] | words[2] | words[3];
    }
    for (; text.end - text.at >= 8; text.at += 8) {
        memcpy(words, text.at, 8);
        all |= words[0];
    }
    return (all & NOT_ASCII) == 0;
}

static int is_utf8(Slice text) {
    if (is_ascii(text)) return 1;
    while (text.at < text.end) {
        int length = *text.at < 0x80 ? 1 : character_bytes(text.at, text.end);
        if (length == 0) return 0;
        text.at += length;
    }
    return 1;
}

typedef struct {
    Py_ssize_t items; /* spans or log records */
    int bad_ids;      /* a span without a trace id or a span id */
} Seen;

/* Whether protobuf accepts the message: not always where it does, never where it does not. */
static int is_readable(Seen *seen, int part, Slice message, int depth) {
    Field field;
    Slice trace = {0}, span = {0};
    int more;
    if (depth > DEEPEST) return 0;
    while ((more = next_field(&message, &field)) > 0) {
        uint32_t number = field.tag >> 3;
        if ((field.tag & 7) != LEN || number >= 16) continue;
        switch (INSIDE[part][number]) {
        case ANY_BYTES: break;
        case A_TEXT:
            if (!is_utf8(field.bytes)) return 0;
            break;
        case A_TRACE_ID: trace = field.bytes; break;
        case A_SPAN_ID: span = field.bytes; break;
        default:
            if (!is_readable(seen, INSIDE[part][number], field.bytes, depth + 1)) return 0;
        }
    }
    if (part == A_SPAN && !(is_id(trace, 16) && is_id(span, 8))) seen->bad_ids = 1;
    if (part == A_SPAN || part == A_RECORD) seen->items++;
    return more == 0;
}

static PyObject *text_of(Slice utf8) {
    return PyUnicode_DecodeUTF8((const char *)utf8.at, utf8.end - utf8.at, NULL);
}

static size_t hash_of(Slice bytes) {
    const uint64_t GOLDEN_RATIO = 0x9E3779B97F4A7C15u;
    uint64_t hash = (uint64_t)(bytes.end - bytes.at), word = 0;
    for (; bytes.end - bytes.at >= 8; bytes.at += 8) {
        memcpy(&word, bytes.at, 8);
        hash = (hash ^ word) * GOLDEN_RATIO;
        hash ^= hash >> 32;
    }
    word = 0;
    memcpy(&word, bytes.at, (size_t)(bytes.end - bytes.at));
    return (size_t)((hash ^ word) * GOLDEN_RATIO >> 32);
}

/* Keys and names are the same few in each request: one `str` object of each spares making it, and hashing it again. */
static PyObject *known_text(State *state, Slice utf8) {
    Py_ssize_t length = utf8.end - utf8.at;
    if (length > LONGEST_KNOWN || length < 2) /* CPython keeps the shorter ones itself */
        return text_of(utf8);
    PyObject **place = &state->known[hash_of(utf8) % KNOWN];
    if (*place != NULL && PyUnicode_GET_LENGTH(*place) == length
        && memcmp(PyUnicode_1BYTE_DATA(*place), utf8.at, (size_t)length) == 0)
        return Py_NewRef(*place);
    PyObject *text = text_of(utf8);
    if (text != NULL && PyUnicode_IS_ASCII(text))
        Py_XSETREF(*place, Py_NewRef(text));
    return text;
}

static PyObject *hex_of(Slice bytes) {
    static const char DIGITS[] = "0123456789abcdef";
    PyObject *text = PyUnicode_New(2 * (bytes.end - bytes.at), 127);
    if (text == NULL) return NULL;
    Py_UCS1 *digit = PyUnicode_1BYTE_DATA(text);
    for (; bytes.at < bytes.end; bytes.at++) {
        *digit++ = (Py_UCS1)DIGITS[*bytes.at >> 4];
        *digit++ = (Py_UCS1)DIGITS[*bytes.at & 15];
    }
    return text;
}

/* Spans of a trace mostly stand together, and share its id. */
static PyObject *trace_id_of(Walk *walk, Slice id) {
    Py_ssize_t length = id.end - id.at;
    if (walk->trace_text == NULL || length == 0 || length != walk->trace.end - walk->trace.at
        || memcmp(id.at, walk->trace.at, (size_t)length) != 0) {
        Py_XSETREF(walk->trace_text, hex_of(id));
        walk->trace = id;
    }
    return Py_XNewRef(walk->trace_text);
}

/* Appends to a list, which it makes at the first item, what was made, if it was. */
static int add_item(PyObject **list, PyObject *item) {
    if (item == NULL) return -1;
    if (*list == NULL) *list = PyList_New(0);
    int added = *list == NULL ? -1 : PyList_Append(*list, item);
    Py_DECREF(item);
    return added;
}

static int add_pair(Walk *walk, PyObject *attributes, Slice pair, int depth);
static PyObject *value_of(Walk *walk, Slice value, int depth);

static PyObject *array_of(Walk *walk, Slice array, int depth) {
    Field field;
    int more;
    if (depth > DEEPEST) return NULL;
    PyObject *items = PyList_New(0);
    while (items != NULL && (more = next_field(&array, &field)) != 0)
        if (more < 0 || (field.tag == VALUES && add_item(&items, value_of(walk, field.bytes, depth + 1)) < 0))
            Py_CLEAR(items);
    return items;
}

static PyObject *kvlist_of(Walk *walk, Slice pairs, int depth) {
    Field field;
    int more;
    if (depth > DEEPEST) return NULL;
    PyObject *items = PyDict_New();
    while (items != NULL && (more = next_field(&pairs, &field)) != 0)
        if (more < 0 || (field.tag == VALUES && add_pair(walk, items, field.bytes, depth + 1) < 0)) Py_CLEAR(items);
    return items;
}

static PyObject *double_of(uint64_t bits) {
    double number;
    memcpy(&number, &bits, sizeof number);
    return PyFloat_FromDouble(number);
}

/* Of an AnyValue: its one field, or none, which is a value as well. */
static int read_value(Slice value, Field *only) {
    Field field;
    int more;
    only->tag = 0;
    while ((more = next_field(&value, &field)) > 0)
        switch (field.tag) {
        case STRING_VALUE: case BOOL_VALUE: case INT_VALUE: case DOUBLE_VALUE: case ARRAY_VALUE: case KVLIST_VALUE:
        case BYTES_VALUE: case STRING_VALUE_STRINDEX:
            if (only->tag) return -1;
            *only = field;
        }
    return more;
}

static PyObject *value_of(Walk *walk, Slice value, int depth) {
    Field only;
    if (depth > DEEPEST || read_value(value, &only) < 0) return NULL;
    switch (only.tag) {
    case STRING_VALUE: return text_of(only.bytes);
    case INT_VALUE: return PyLong_FromLongLong((long long)only.number);
    case BOOL_VALUE: return PyBool_FromLong(only.number != 0);
    case DOUBLE_VALUE: return double_of(only.number);
    case BYTES_VALUE: return PyBytes_FromStringAndSize((const char *)only.bytes.at, only.bytes.end - only.bytes.at);
    case ARRAY_VALUE: return array_of(walk, only.bytes, depth + 1);
    case KVLIST_VALUE: return kvlist_of(walk, only.bytes, depth + 1);
    default: return Py_NewRef(Py_None);
    }
}

static int add_pair(Walk *walk, PyObject *attributes, Slice pair, int depth) {
    Field field;
    Slice key = {0}, value = {0};
    int more;
    if (depth > DEEPEST) return -1;
    while ((more = next_field(&pair, &field)) > 0)
        if (field.tag == PAIR_KEY) {
            if (!is_utf8(key)) return -1;
            key = field.bytes;
        } else if (field.tag == PAIR_VALUE) {
            if (value.at != NULL) return -1;
            value = field.bytes;
        }
    if (more < 0) return -1;
    PyObject *name = known_text(walk->state, key);
    if (name == NULL) return -1;
    PyObject *read = value.at == NULL ? Py_NewRef(Py_None) : value_of(walk, value, depth + 1);
    int added = read == NULL ? -1 : PyDict_SetItem(attributes, name, read);
    Py_DECREF(name);
    Py_XDECREF(read);
    return added;
}

static PyObject *struct_of(Walk *walk, const Shape *shape, Slice bytes);

static int read_message(Walk *walk, const Row *rows, Slice bytes, Field *fields, Message *message) {
    Field field;
    int more, read = 0;
    while (read >= 0 && (more = next_field(&bytes, &field)) > 0) {
        uint32_t number = field.tag >> 3;
        if (number >= MOST || rows[number].kind == NOTHING || rows[number].wire != (int)(field.tag & 7)) continue;
        switch (rows[number].kind) {
        case PAIRS:
            message->pairs++;
            read = add_pair(walk, message->attributes, field.bytes, message->depth + 1);
            break;
        case EVENTS:
            read = add_item(&message->events, struct_of(walk, &walk->state->event, field.bytes));
            break;
        case LINKS:
            read = add_item(&message->links, struct_of(walk, &walk->state->link, field.bytes));
            break;
        case STATUS:
            read = fields[number].tag ? -1 : read_message(walk, STATUS_ROWS, field.bytes, fields + OF_STATUS, message);
            break;
        case VALUE:
            read = fields[number].tag ? -1 : 0;
            break;
        case TEXT: case NAME:
            read = is_utf8(fields[number].bytes) ? 0 : -1; /* the one before, which nobody else looks at */
            break;
        default:
            break;
        }
        fields[number] = field;
    }
    return read < 0 ? -1 : more;
}

static PyObject *attribute_of(Walk *walk, Kind kind, const Field *field, const Message *message) {
    switch (kind) {
    case TEXT: return text_of(field->bytes);
    case NAME: return known_text(walk->state, field->bytes);
    case HEX: return hex_of(field->bytes);
    case TRACE_ID: return trace_id_of(walk, field->bytes);
    case LOG_TRACE_ID: return trace_id_of(walk, is_id(field->bytes, 16) ? field->bytes : (Slice){0});
    case LOG_SPAN_ID: return hex_of(is_id(field->bytes, 8) ? field->bytes : (Slice){0});
    case INT32: return PyLong_FromLong((int32_t)field->number);
    case UINT32: return PyLong_FromUnsignedLong((uint32_t)field->number);
    case UINT64: return PyLong_FromUnsignedLongLong(field->number);
    case VALUE: return field->tag ? value_of(walk, field->bytes, message->depth + 1) : Py_NewRef(Py_None);
    case PAIRS: return Py_NewRef(message->attributes);
    case EVENTS: return message->events != NULL ? Py_NewRef(message->events) : PyList_New(0);
    case LINKS: return message->links != NULL ? Py_NewRef(message->links) : PyList_New(0);
    case RESOURCE: return Py_NewRef(walk->resource);
    case SCOPE: return Py_NewRef(walk->scope);
    default: return NULL;
    }
}

static PyObject *made_of(Walk *walk, const Shape *shape, const Message *message) {
    PyObject *values[MOST], *made = NULL;
    int count = 0, failed = 0;
    for (int number = 1; number < MOST && !failed; number++)
        if (shape->rows[number].name != NULL) {
            values[count] = attribute_of(walk, shape->rows[number].kind, &message->fields[number], message);
            if (values[count] == NULL) failed = 1;
            else count++;
        }
    if (!failed) made = PyObject_Vectorcall(shape->type, values, 0, shape->names);
    while (count > 0) Py_DECREF(values[--count]);
    return made;
}

static int is_ordinary(const Shape *shape, const Message *message) {
    Slice parent = message->fields[4].bytes;
    if (shape->rows != SPAN && shape->rows != LOG) return 1;
    if (PyDict_GET_SIZE(message->attributes) != message->pairs) return 0;
    return shape->rows == LOG || (is_id(message->fields[1].bytes, 16) && is_id(message->fields[2].bytes, 8)
                                  && (parent.at == parent.end || is_id(parent, 8)));
}

/* What is wrong with it is Python's to say. */
static int flag(Walk *walk, PyObject *made, const Message *message) {
    PyObject *none = PyObject_CallFunction(walk->flag, "On", made, message->pairs);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

static PyObject *struct_of(Walk *walk, const Shape *shape, Slice bytes) {
    Message message = {.attributes = PyDict_New(), .depth = shape->depth};
    PyObject *made = NULL;
    if (message.attributes != NULL && read_message(walk, shape->rows, bytes, message.fields, &message) >= 0)
        made = made_of(walk, shape, &message);
    if (made != NULL && !is_ordinary(shape, &message) && flag(walk, made, &message) < 0) Py_CLEAR(made);
    Py_XDECREF(message.attributes);
    Py_XDECREF(message.events);
    Py_XDECREF(message.links);
    return made;
}

/* The resource or scope that the rest of `message` shares, from Python, which knows those of earlier requests: of its
 * bytes, or None, and the schema's URL. Both stand anywhere in the message, so it is gone through for them first. */
static PyObject *shared_of(PyObject *python, int part, int depth, Slice message) {
    Field field = {0};
    Slice shared = {0}, url = {0};
    Seen seen = {0};
    int more;
    while ((more = next_field(&message, &field)) > 0)
        if (field.tag == SCHEMA_URL) {
            if (!is_utf8(url)) return NULL;
            url = field.bytes;
        } else if (field.tag == SHARED) {
            if (shared.at != NULL) return NULL;
            shared = field.bytes;
        }
    if (more < 0 || !is_readable(&seen, part, shared, depth)) return NULL;
    return PyObject_CallFunction(python, "y#s#", shared.at, (Py_ssize_t)(shared.end - shared.at),
                                 url.at == NULL ? "" : (const char *)url.at, (Py_ssize_t)(url.end - url.at));
}

static int add_scope(Walk *walk, Slice message) {
    Field field;
    int more;
    Py_XSETREF(walk->scope, shared_of(walk->scope_of, A_SCOPE, 3, message));
    if (walk->scope == NULL) return -1;
    while ((more = next_field(&message, &field)) > 0)
        if (field.tag == PARTS && add_item(&walk->found, struct_of(walk, walk->shape, field.bytes)) < 0) return -1;
    return more;
}

static int add_resource(Walk *walk, Slice message) {
    Field field;
    int more;
    Py_XSETREF(walk->resource, shared_of(walk->resource_of, A_RESOURCE, 2, message));
    if (walk->resource == NULL) return -1;
    while ((more = next_field(&message, &field)) > 0)
        if (field.tag == PARTS && add_scope(walk, field.bytes) < 0) return -1;
    return more;
}

static int add_request(Walk *walk, Slice message) {
    Field field;
    int more;
    while ((more = next_field(&message, &field)) > 0)
        if (field.tag == RESOURCES && add_resource(walk, field.bytes) < 0) return -1;
    return more;
}

static PyObject *found_in(State *state, const Shape *shape, PyObject *const *args, Py_ssize_t count) {
    char *body;
    Py_ssize_t size;
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "four arguments are taken: body, resource_of, scope_of, flag");
        return NULL;
    }
    if (PyBytes_AsStringAndSize(args[0], &body, &size) < 0) return NULL;
    Walk walk = {.state = state, .shape = shape, .resource_of = args[1], .scope_of = args[2], .flag = args[3]};
    walk.found = PyList_New(0);
    if (walk.found != NULL && add_request(&walk, (Slice){(uint8_t *)body, (uint8_t *)body + size}) < 0)
        Py_CLEAR(walk.found);
    Py_XDECREF(walk.resource);
    Py_XDECREF(walk.scope);
    Py_XDECREF(walk.trace_text);
    if (walk.found == NULL && PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
        PyErr_Clear(); /* Python's to say */
    return walk.found != NULL || PyErr_Occurred() ? walk.found : Py_NewRef(Py_None);
}

static PyObject *spans(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    State *state = PyModule_GetState(module);
    return found_in(state, &state->span, args, count);
}

static PyObject *logs(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    State *state = PyModule_GetState(module);
    return found_in(state, &state->log, args, count);
}

static PyObject *count_of(int part, PyObject *request) {
    char *body;
    Py_ssize_t size;
    Seen seen = {0};
    if (PyBytes_AsStringAndSize(request, &body, &size) < 0) return NULL;
    if (!is_readable(&seen, part, (Slice){(uint8_t *)body, (uint8_t *)body + size}, 0) || seen.bad_ids)
        return Py_NewRef(Py_None);
    return PyLong_FromSsize_t(seen.items);
}

static PyObject *count_spans(PyObject *module, PyObject *request) {
    (void)module;
    return count_of(SOME_TRACES, request);
}

static PyObject *count_logs(PyObject *module, PyObject *request) {
    (void)module;
    return count_of(SOME_LOGS, request);
}

/* The names of the arguments interned, as those of a struct are: msgspec then compares pointers. */
static int start_shape(Shape *shape, const Row *rows, int depth, PyObject *raw, const char *type) {
    PyObject *names = NULL;
    shape->rows = rows;
    shape->depth = depth;
    shape->type = PyObject_GetAttrString(raw, type);
    for (int number = 1; number < MOST && !PyErr_Occurred(); number++)
        if (rows[number].name != NULL) add_item(&names, PyUnicode_InternFromString(rows[number].name));
    if (!PyErr_Occurred()) shape->names = PyList_AsTuple(names);
    Py_XDECREF(names);
    return shape->names == NULL ? -1 : 0;
}

static int start(PyObject *module) {
    State *state = PyModule_GetState(module);
    PyObject *raw = PyImport_ImportModule("spanweir.schemas.raw");
    if (raw == NULL) return -1;
    int failed = start_shape(&state->span, SPAN, 3, raw, "RawSpan") < 0
        || start_shape(&state->event, EVENT, 4, raw, "Event") < 0
        || start_shape(&state->link, LINK, 4, raw, "Link") < 0
        || start_shape(&state->log, LOG, 3, raw, "RawLog") < 0;
    Py_DECREF(raw);
    return failed ? -1 : PyModule_AddStringConstant(module, "SOURCE", SOURCE_DIGEST);
}

static int traverse(PyObject *module, visitproc visit, void *arg) {
    State *state = PyModule_GetState(module);
    Py_VISIT(state->span.type);
    Py_VISIT(state->event.type);
    Py_VISIT(state->link.type);
    Py_VISIT(state->log.type);
    return 0;
}

static int clear(PyObject *module) {
    State *state = PyModule_GetState(module);
    Shape *const shapes[] = {&state->span, &state->event, &state->link, &state->log};
    for (int i = 0; i < 4; i++) {
        Py_CLEAR(shapes[i]->type);
        Py_CLEAR(shapes[i]->names);
    }
    for (int i = 0; i < KNOWN; i++) Py_CLEAR(state->known[i]);
    return 0;
}

static void release(void *module) {
    clear(module);
}

static PyMethodDef METHODS[] = {
    {"spans", (PyCFunction)(void (*)(void))spans, METH_FASTCALL, NULL},
    {"logs", (PyCFunction)(void (*)(void))logs, METH_FASTCALL, NULL},
    {"count_spans", count_spans, METH_O, NULL},
    {"count_logs", count_logs, METH_O, NULL},
    {0},
};
static PyModuleDef_Slot SLOTS[] = {{Py_mod_exec, start}, {0}};

/* What it keeps is the module's, so that each interpreter has its own. */
static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_size = sizeof(State),
    .m_methods = METHODS,
    .m_slots = SLOTS,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = release,
};

PyMODINIT_FUNC PyInit__native(void) {
    return PyModuleDef_Init(&MODULE);
}

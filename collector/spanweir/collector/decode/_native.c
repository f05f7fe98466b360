/* The native twin of `otlp_proto`: the wire format of a request of traces or logs as `RawSpan` or `RawLog` values.
 *
 * It walks a body that protobuf itself has accepted, so structure, nesting and UTF-8 are known to be right; every bound
 * is checked all the same. What is rare is not repeated here: a group, a submessage that stands twice and would have to
 * be merged, an AnyValue with more than one field, and whatever is unexpected end the walk without an exception set,
 * and None is answered. The Python twin then does the whole request; it is the specification.
 *
 * As in protobuf, a known field of another wire type than declared is an unknown one and is passed over, and of a field
 * that stands twice the last one counts. A function that answers NULL or -1 has set an exception, or ends the walk.
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

enum { DEEPEST = 100 };                    /* protobuf's own limit of nesting */
enum { KNOWN = 1024, LONGEST_KNOWN = 64 }; /* texts remembered, and their bytes at most */

typedef struct {
    const Row *rows;
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
    Py_ssize_t pairs;
    PyObject *attributes, *events, *links;
} Message;

static int read_varint(Slice *rest, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 64 && rest->at < rest->end; shift += 7) {
        uint8_t byte = *rest->at++;
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return 1;
    }
    return -1;
}

static inline int read_short_varint(Slice *rest, uint64_t *value) {
    if (rest->at >= rest->end || *rest->at >= 0x80) /* most have one byte */
        return read_varint(rest, value);
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
    if (read_short_varint(rest, &tag) < 0 || tag > UINT32_MAX) return -1;
    field->tag = (uint32_t)tag;
    switch (tag & 7) {
    case LEN:
        if (read_short_varint(rest, &length) < 0 || length > (uint64_t)(rest->end - rest->at)) return -1;
        field->bytes = (Slice){rest->at, rest->at + length};
        rest->at += length;
        return 1;
    case VARINT:
        return read_short_varint(rest, &field->number);
    case I64:
        return read_fixed(rest, 8, &field->number);
    case I32:
        return read_fixed(rest, 4, &field->number);
    default:
        return -1;
    }
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
    PyObject *items = PyList_New(0);
    Field field;
    int more;
    while (items != NULL && (more = next_field(&array, &field)) != 0)
        if (more < 0 || (field.tag == VALUES && add_item(&items, value_of(walk, field.bytes, depth)) < 0))
            Py_CLEAR(items);
    return items;
}

static PyObject *kvlist_of(Walk *walk, Slice pairs, int depth) {
    PyObject *items = PyDict_New();
    Field field;
    int more;
    while (items != NULL && (more = next_field(&pairs, &field)) != 0)
        if (more < 0 || (field.tag == VALUES && add_pair(walk, items, field.bytes, depth) < 0)) Py_CLEAR(items);
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
    while ((more = next_field(&pair, &field)) > 0)
        if (field.tag == PAIR_KEY) {
            key = field.bytes;
        } else if (field.tag == PAIR_VALUE) {
            if (value.at != NULL) return -1;
            value = field.bytes;
        }
    if (more < 0) return -1;
    PyObject *name = known_text(walk->state, key);
    if (name == NULL) return -1;
    PyObject *read = value.at == NULL ? Py_NewRef(Py_None) : value_of(walk, value, depth);
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
            read = add_pair(walk, message->attributes, field.bytes, 0);
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
        default:
            break;
        }
        fields[number] = field;
    }
    return read < 0 ? -1 : more;
}

static int is_id(Slice id, int length) {
    int set = 0;
    for (const uint8_t *at = id.at; at < id.end; at++) set |= *at;
    return set && id.end - id.at == length;
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
    case VALUE: return field->tag ? value_of(walk, field->bytes, 0) : Py_NewRef(Py_None);
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
    Message message = {.attributes = PyDict_New()};
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
static PyObject *shared_of(PyObject *python, Slice message) {
    Field field = {0};
    Slice shared = {0}, url = {0};
    int more;
    while ((more = next_field(&message, &field)) > 0)
        if (field.tag == SCHEMA_URL) {
            url = field.bytes;
        } else if (field.tag == SHARED) {
            if (shared.at != NULL) return NULL;
            shared = field.bytes;
        }
    if (more < 0) return NULL;
    return PyObject_CallFunction(python, "y#s#", shared.at, (Py_ssize_t)(shared.end - shared.at),
                                 url.at == NULL ? "" : (const char *)url.at, (Py_ssize_t)(url.end - url.at));
}

static int add_scope(Walk *walk, Slice message) {
    Field field;
    int more;
    Py_XSETREF(walk->scope, shared_of(walk->scope_of, message));
    if (walk->scope == NULL) return -1;
    while ((more = next_field(&message, &field)) > 0)
        if (field.tag == PARTS && add_item(&walk->found, struct_of(walk, walk->shape, field.bytes)) < 0) return -1;
    return more;
}

static int add_resource(Walk *walk, Slice message) {
    Field field;
    int more;
    Py_XSETREF(walk->resource, shared_of(walk->resource_of, message));
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

/* The names of the arguments interned, as those of a struct are: msgspec then compares pointers. */
static int start_shape(Shape *shape, const Row *rows, PyObject *raw, const char *type) {
    PyObject *names = NULL;
    shape->rows = rows;
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
    int failed = start_shape(&state->span, SPAN, raw, "RawSpan") < 0
        || start_shape(&state->event, EVENT, raw, "Event") < 0
        || start_shape(&state->link, LINK, raw, "Link") < 0
        || start_shape(&state->log, LOG, raw, "RawLog") < 0;
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

/* What the spans of a whole trace say together, twin of `parents_of` and of the loop `_sums_in_python` in `whole.py`.
 *
 * The fields of structs are read where they lie: the places are asked of Python once, of each class that is named in
 * `LAYOUTS`. Whatever else than ordinary stands there (evaluations, failures in the sender's words, tags, facts of a
 * root, huge numbers) ends the loop, and None says that Python has to do it. Not here: the trace's row.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <structmember.h>

#ifndef SOURCE_DIGEST
#define SOURCE_DIGEST ""
#endif

/* ------------------------------------------------------------------------------------------------ structs */

enum { MOST = 16 };

typedef struct {
    PyTypeObject *type;
    Py_ssize_t places[MOST];
} Layout;

static Layout shown_, item_, raw_, scope_, mapped_, span_, usage_, response_, agent_, graph_, io_;

enum { SHOWN_ITEM, SHOWN_MAPPED };
enum { ITEM_RAW, ITEM_SPAN, ITEM_EXPERIMENT, ITEM_TENANT, ITEM_RUN_ID };
enum { RAW_SPAN_ID, RAW_PARENT_ID, RAW_NAME, RAW_START, RAW_END, RAW_STATUS, RAW_SCOPE };
enum { SCOPE_NAME };
enum { MAPPED_CONTENT, MAPPED_COST };
enum { SPAN_KIND, SPAN_ERROR, SPAN_USAGE, SPAN_RESPONSE, SPAN_AGENT, SPAN_GRAPH, SPAN_SESSION, SPAN_CONVERSATION,
       SPAN_USER, SPAN_TRACE_TAGS, SPAN_TAGS, SPAN_METADATA, SPAN_EVALUATIONS, SPAN_IO };
enum { USAGE_INPUT, USAGE_OUTPUT, USAGE_TOTAL, USAGE_READ, USAGE_WRITE, USAGE_WRITE_1H, USAGE_SCOPE, USAGE_RUNNING };
enum { RESPONSE_ID };
enum { AGENT_NAME };
enum { GRAPH_WORKFLOW };
enum { IO_TRACE_INPUT, IO_TRACE_OUTPUT, IO_TRACE_NAME };

static const struct {
    Layout *layout;
    const char *module, *name, *fields[MOST];
} LAYOUTS[] = {
    {&shown_, "spanweir.collector.assembly.work", "Rendered", {"item", "mapped"}},
    {&item_, "spanweir.collector.processors.api", "Item", {"raw", "span", "experiment", "tenant", "run_id"}},
    {&raw_, "spanweir.schemas.raw", "RawSpan",
     {"span_id", "parent_id", "name", "start_ns", "end_ns", "status_code", "scope"}},
    {&scope_, "spanweir.schemas.raw", "Scope", {"name"}},
    {&mapped_, "spanweir.schemas.trace", "MappedSpan", {"content", "cost"}},
    {&span_, "spanweir.schemas.genai", "GenAISpan",
     {"kind", "error", "usage", "response", "agent", "graph", "session_id", "conversation_id", "user_id", "trace_tags",
      "tags", "metadata", "evaluations", "io"}},
    {&usage_, "spanweir.schemas.genai", "Usage",
     {"input", "output", "total", "cache_read", "cache_write", "cache_write_1h", "scope", "running"}},
    {&response_, "spanweir.schemas.genai", "Response", {"id"}},
    {&agent_, "spanweir.schemas.genai", "Agent", {"name"}},
    {&graph_, "spanweir.schemas.genai", "Graph", {"workflow"}},
    {&io_, "spanweir.schemas.genai", "TraceIO", {"trace_input", "trace_output", "trace_name"}},
};

static int learn(Layout *layout, const char *module, const char *name, const char *const *fields) {
    PyObject *imported = PyImport_ImportModule(module), *type = NULL;
    if (imported != NULL) type = PyObject_GetAttrString(imported, name);
    Py_XDECREF(imported);
    if (type == NULL) return -1;
    layout->type = (PyTypeObject *)type; /* for good */
    for (int i = 0; i < MOST && fields[i] != NULL; i++) {
        PyObject *member = PyObject_GetAttrString(type, fields[i]);
        if (member == NULL) return -1;
        if (!Py_IS_TYPE(member, &PyMemberDescr_Type) || ((PyMemberDescrObject *)member)->d_member->type != T_OBJECT_EX) {
            PyErr_Format(PyExc_ImportError, "%s.%s is no field of a struct", name, fields[i]);
            Py_DECREF(member);
            return -1;
        }
        layout->places[i] = ((PyMemberDescrObject *)member)->d_member->offset;
        Py_DECREF(member);
    }
    return 0;
}

static inline int is_a(PyObject *object, const Layout *layout) {
    return Py_IS_TYPE(object, layout->type);
}

/* A borrowed reference to a field of what `is_a` struct of this layout. */
static inline PyObject *field(PyObject *object, const Layout *layout, int which) {
    PyObject *value = *(PyObject **)((char *)object + layout->places[which]);
    return value == NULL ? Py_None : value;
}

/* A field of a struct that may not be there; NULL where something else is. */
static inline PyObject *field_of(PyObject *object, const Layout *layout, int which) {
    return object == Py_None ? Py_None : is_a(object, layout) ? field(object, layout, which) : NULL;
}

/* ------------------------------------------------------------------------------------------------ parents */

static PyObject *parents_of(PyObject *module, PyObject *group) {
    PyObject *span_id, *item, *parents;
    Py_ssize_t place = 0, roots = 0;
    (void)module;
    if (!PyDict_CheckExact(group)) return PyErr_Format(PyExc_TypeError, "parents_of takes a dict of items");
    parents = PySet_New(NULL);
    while (parents != NULL && PyDict_Next(group, &place, &span_id, &item)) {
        PyObject *raw = is_a(item, &item_) ? field(item, &item_, ITEM_RAW) : Py_None;
        if (!is_a(raw, &raw_) || !PyUnicode_Check(field(raw, &raw_, RAW_PARENT_ID))) {
            PyErr_SetString(PyExc_TypeError, "parents_of takes a dict of items");
            Py_CLEAR(parents);
            break;
        }
        PyObject *parent = field(raw, &raw_, RAW_PARENT_ID);
        int ended = PyObject_IsTrue(field(raw, &raw_, RAW_END)), whole = ended;
        if (PyUnicode_GET_LENGTH(parent) == 0) roots++;
        else if (whole > 0 && (whole = PyDict_Contains(group, parent)) > 0) {
            int own = PyObject_RichCompareBool(parent, span_id, Py_EQ);
            whole = own ? (own < 0 ? -1 : 0) : PySet_Add(parents, parent) < 0 ? -1 : 1;
        }
        if (whole <= 0) Py_SETREF(parents, whole < 0 ? NULL : Py_NewRef(Py_None));
        if (whole <= 0) return parents;
    }
    if (parents != NULL && roots != 1) Py_SETREF(parents, Py_NewRef(Py_None));
    return parents;
}

/* ------------------------------------------------------------------------------------------------ sums */

/* Of several spans that give a value the one that started first wins. Borrowed references. */
typedef struct {
    uint64_t start;
    PyObject *span_id, *value;
} First;

enum { TOKENS = 6 }; /* fields of `state.Tokens`; how many gave each of the last three is counted behind */
enum { LEAST_CACHE = 3 };

typedef struct {
    PyObject *parents, *calls, *dollars_of, *pay_into; /* arguments */
    PyObject *first_item, *root;                       /* borrowed */
    PyObject *spans, *responses, *dollars;
    PyObject *first_ns, *last_ns; /* borrowed */
    uint64_t first, last;
    Py_ssize_t size;
    long long tokens[TOKENS + TOKENS - LEAST_CACHE];
    int counted;
    First name, title, session, user;
} Sums;

/* What a span says, as fields of `Seen`. Borrowed references, but `usage` and `cost`. */
typedef struct {
    PyObject *raw, *span, *span_id, *parent, *kind, *response, *running, *usage, *cost;
    uint64_t start, end;
} Told;

enum { ORDINARY = 1, NOT_OURS = 0 }; /* -1: an exception */
static const uint64_t WEAKER = 1ULL << 62, LATEST = 1ULL << 63;
static const long long MOST_TOKENS = 1LL << 40;
static PyObject *EMPTY;

static int is_empty(PyObject *text) {
    return text == Py_None || PyUnicode_GET_LENGTH(text) == 0;
}

static int is_text(PyObject *value) {
    return value != NULL && (value == Py_None || PyUnicode_CheckExact(value));
}

static int is_nothing(PyObject *value) {
    return value == Py_None || (PyList_CheckExact(value) && PyList_GET_SIZE(value) == 0)
        || (PyDict_CheckExact(value) && PyDict_GET_SIZE(value) == 0);
}

static int time_of(PyObject *number, uint64_t *time) {
    if (!PyLong_CheckExact(number)) return NOT_OURS;
    *time = PyLong_AsUnsignedLongLong(number);
    if (*time == (uint64_t)-1 && PyErr_Occurred()) {
        PyErr_Clear();
        return NOT_OURS;
    }
    return *time < LATEST;
}

static void offer(First *old, uint64_t start, PyObject *span_id, PyObject *value) {
    if (old->value != NULL
        && (start > old->start || (start == old->start && PyUnicode_Compare(span_id, old->span_id) > 0)))
        return;
    *old = (First){start, span_id, value};
}

/* The values of the trace that any of its spans may give, as `fold.tell`. */
static int tell(Sums *sums, const Told *told) {
    PyObject *name = field(told->raw, &raw_, RAW_NAME), *span = told->span;
    if (!PyUnicode_CheckExact(name)) return NOT_OURS;
    if (sums->root == NULL && !is_empty(name)) offer(&sums->name, told->start, told->span_id, name);
    if (span == Py_None) return ORDINARY;
    int agent = PyUnicode_CompareWithASCIIString(told->kind, "agent") == 0;
    if (agent || PyUnicode_CompareWithASCIIString(told->kind, "workflow") == 0) {
        PyObject *title = agent ? field_of(field(span, &span_, SPAN_AGENT), &agent_, AGENT_NAME)
                                : field_of(field(span, &span_, SPAN_GRAPH), &graph_, GRAPH_WORKFLOW);
        if (!is_text(title)) return NOT_OURS;
        if (is_empty(title)) title = name;
        if (!is_empty(title)) offer(&sums->title, told->start, told->span_id, title);
    }
    PyObject *session = field(span, &span_, SPAN_SESSION), *thread = field(span, &span_, SPAN_CONVERSATION);
    PyObject *user = field(span, &span_, SPAN_USER);
    if (!is_text(session) || !is_text(thread) || !is_text(user)) return NOT_OURS;
    if (!is_empty(session)) offer(&sums->session, told->start, told->span_id, session);
    else if (!is_empty(thread))
        offer(&sums->session, session == Py_None ? told->start + WEAKER : told->start, told->span_id, thread);
    if (!is_empty(user)) offer(&sums->user, told->start, told->span_id, user);
    return ORDINARY;
}

/* Whether all of what a span says is told by what is read here. */
static int is_ordinary(const Told *told) {
    PyObject *span = told->span, *io = field(span, &span_, SPAN_IO);
    if (field(span, &span_, SPAN_ERROR) != Py_None || !is_nothing(field(span, &span_, SPAN_EVALUATIONS))
        || !is_nothing(field(span, &span_, SPAN_TAGS)) || !is_nothing(field(span, &span_, SPAN_TRACE_TAGS))
        || (is_empty(told->parent) && !is_nothing(field(span, &span_, SPAN_METADATA))))
        return 0;
    for (int i = IO_TRACE_INPUT; i <= IO_TRACE_NAME; i++)
        if (field_of(io, &io_, i) != Py_None) return 0;
    return 1;
}

/* The tokens of a call, which are added to the sum; None where it counted none. */
static int count(Sums *sums, PyObject *usage, PyObject **tokens) {
    long long counts[TOKENS];
    for (int i = 0; i < TOKENS; i++) {
        PyObject *number = field(usage, &usage_, i);
        counts[i] = -1;
        if (number == Py_None) continue;
        int overflow = 0;
        if (!PyLong_CheckExact(number)) return NOT_OURS;
        counts[i] = PyLong_AsLongLongAndOverflow(number, &overflow);
        if (overflow || counts[i] < 0 || counts[i] >= MOST_TOKENS) return NOT_OURS;
    }
    if (counts[USAGE_INPUT] < 0 && counts[USAGE_OUTPUT] < 0 && counts[USAGE_TOTAL] < 0) return ORDINARY;
    int in_parts = counts[USAGE_INPUT] >= 0 || counts[USAGE_OUTPUT] >= 0;
    for (int i = 0; i < LEAST_CACHE; i++)
        if (counts[i] < 0) counts[i] = 0;
    if (in_parts) counts[USAGE_TOTAL] = counts[USAGE_INPUT] + counts[USAGE_OUTPUT];
    Py_SETREF(*tokens, PyTuple_New(TOKENS));
    for (int i = 0; i < TOKENS && *tokens != NULL; i++) {
        PyObject *number = counts[i] < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(counts[i]);
        if (number == NULL) Py_CLEAR(*tokens);
        else PyTuple_SET_ITEM(*tokens, i, number);
        if (counts[i] < 0) continue;
        sums->tokens[i] += counts[i];
        if (i >= LEAST_CACHE) sums->tokens[TOKENS + i - LEAST_CACHE]++;
    }
    sums->counted = 1;
    return *tokens == NULL ? -1 : ORDINARY;
}

/* What the calls cost is Python's to add up. */
static int pay(Sums *sums, PyObject *cost, PyObject **dollars) {
    if (sums->dollars == NULL) sums->dollars = Py_BuildValue("[iiiii]", 0, 0, 0, 0, 0);
    Py_SETREF(*dollars, sums->dollars == NULL ? NULL : PyObject_CallOneArg(sums->dollars_of, cost));
    PyObject *args[] = {sums->dollars, *dollars};
    PyObject *paid = *dollars == NULL ? NULL : PyObject_Vectorcall(sums->pay_into, args, 2, NULL);
    Py_XDECREF(paid);
    return paid == NULL ? -1 : ORDINARY;
}

/* A model's call counts where no other one can be the same call. */
static int add_usage(Sums *sums, Told *told, PyObject *cost) {
    PyObject *usage = field(told->span, &span_, SPAN_USAGE), *response;
    response = field_of(field(told->span, &span_, SPAN_RESPONSE), &response_, RESPONSE_ID);
    if (!is_text(response)) return NOT_OURS;
    if (!is_empty(response)) told->response = response;
    if (usage == Py_None) return cost == Py_None;
    if (!is_a(usage, &usage_)) return NOT_OURS;
    PyObject *scope = field(usage, &usage_, USAGE_SCOPE), *running = field(usage, &usage_, USAGE_RUNNING);
    if (!PyUnicode_CheckExact(scope) || !PyUnicode_CheckExact(running)) return NOT_OURS;
    if (PyUnicode_CompareWithASCIIString(scope, "own") != 0 || !is_empty(running)) return NOT_OURS;
    int done = count(sums, usage, &told->usage);
    if (done <= 0) return done;
    if (told->usage == Py_None) return cost == Py_None;
    int call = PySet_Contains(sums->calls, told->kind), above = PySet_Contains(sums->parents, told->span_id);
    if (call <= 0 || above) return call < 0 || above < 0 ? -1 : NOT_OURS;
    if (told->response != EMPTY) {
        int again = PySet_Contains(sums->responses, told->response);
        if (again) return again < 0 ? -1 : NOT_OURS;
        if (PySet_Add(sums->responses, told->response) < 0) return -1;
    }
    return cost == Py_None ? ORDINARY : pay(sums, cost, &told->cost);
}

static int add_seen(Sums *sums, const Told *told, PyObject *scope, Py_ssize_t size) {
    PyObject *status = field(told->raw, &raw_, RAW_STATUS);
    long failed = PyLong_CheckExact(status) ? PyLong_AsLong(status) : -1;
    if (failed == -1 && PyErr_Occurred()) return -1;
    PyObject *bytes = PyLong_FromSsize_t(size), *seen = NULL;
    if (bytes != NULL)
        seen = PyTuple_Pack(13, told->span_id, told->parent, field(told->raw, &raw_, RAW_START),
                            field(told->raw, &raw_, RAW_END), told->kind, failed == 2 ? Py_True : Py_False, told->usage,
                            Py_False, told->cost, bytes, told->response, field(scope, &scope_, SCOPE_NAME), EMPTY);
    int added = seen == NULL ? -1 : PyList_Append(sums->spans, seen);
    Py_XDECREF(bytes);
    Py_XDECREF(seen);
    sums->size += size;
    return added < 0 ? -1 : ORDINARY;
}

static int same(PyObject *one, PyObject *other, int which) {
    return field(one, &item_, which) == field(other, &item_, which);
}

static int add_told(Sums *sums, PyObject *shown, Told *told, PyObject *mapped) {
    PyObject *raw = told->raw, *scope = field(raw, &raw_, RAW_SCOPE), *content = field(mapped, &mapped_, MAPPED_CONTENT);
    told->span_id = field(raw, &raw_, RAW_SPAN_ID);
    told->parent = field(raw, &raw_, RAW_PARENT_ID);
    if (!PyUnicode_CheckExact(told->span_id) || !PyUnicode_CheckExact(told->parent) || !PyBytes_CheckExact(content)
        || !is_a(scope, &scope_) || !time_of(field(raw, &raw_, RAW_START), &told->start)
        || !time_of(field(raw, &raw_, RAW_END), &told->end))
        return NOT_OURS;
    int done = ORDINARY;
    if (told->span != Py_None) {
        told->kind = field(told->span, &span_, SPAN_KIND);
        if (!PyUnicode_CheckExact(told->kind) || !is_ordinary(told)) return NOT_OURS;
        done = add_usage(sums, told, field(mapped, &mapped_, MAPPED_COST));
    }
    if (done > 0) done = tell(sums, told);
    if (done > 0) done = add_seen(sums, told, scope, PyBytes_GET_SIZE(content));
    if (is_empty(told->parent)) sums->root = shown;
    if (sums->first_ns == NULL || told->start < sums->first)
        sums->first_ns = field(raw, &raw_, RAW_START), sums->first = told->start;
    if (sums->last_ns == NULL || told->end > sums->last)
        sums->last_ns = field(raw, &raw_, RAW_END), sums->last = told->end;
    return done;
}

static int add(Sums *sums, PyObject *shown) {
    if (!is_a(shown, &shown_)) return NOT_OURS;
    PyObject *item = field(shown, &shown_, SHOWN_ITEM), *mapped = field(shown, &shown_, SHOWN_MAPPED);
    if (!is_a(item, &item_) || !is_a(mapped, &mapped_)) return NOT_OURS;
    if (sums->first_item == NULL) sums->first_item = item;
    if (field(item, &item_, ITEM_RUN_ID) != Py_None || !same(item, sums->first_item, ITEM_EXPERIMENT)
        || !same(item, sums->first_item, ITEM_TENANT))
        return NOT_OURS;
    Told told = {.raw = field(item, &item_, ITEM_RAW), .span = field(item, &item_, ITEM_SPAN), .kind = EMPTY,
                 .response = EMPTY, .usage = Py_NewRef(Py_None), .cost = Py_NewRef(Py_None)};
    int done = NOT_OURS;
    if (is_a(told.raw, &raw_) && (told.span == Py_None || is_a(told.span, &span_)))
        done = add_told(sums, shown, &told, mapped);
    Py_XDECREF(told.usage);
    Py_XDECREF(told.cost);
    return done;
}

static PyObject *first_of(const First *first) {
    if (first->value == NULL) return Py_NewRef(Py_None);
    return Py_BuildValue("KOO", (unsigned long long)first->start, first->span_id, first->value);
}

static PyObject *tokens_of(const Sums *sums) {
    if (!sums->counted) return Py_NewRef(Py_None);
    PyObject *tokens = PyList_New(0);
    for (size_t i = 0; tokens != NULL && i < sizeof sums->tokens / sizeof *sums->tokens; i++) {
        PyObject *number = PyLong_FromLongLong(sums->tokens[i]);
        if (number == NULL || PyList_Append(tokens, number) < 0) Py_CLEAR(tokens);
        Py_XDECREF(number);
    }
    return tokens;
}

static PyObject *sums(PyObject *module, PyObject *const *args, Py_ssize_t arguments) {
    (void)module;
    if (arguments != 5 || !PyList_CheckExact(args[0]) || !PyAnySet_Check(args[1]) || !PyAnySet_Check(args[2]))
        return PyErr_Format(PyExc_TypeError, "sums takes what _native.pyi says");
    Sums sums = {.parents = args[1], .calls = args[2], .dollars_of = args[3], .pay_into = args[4],
                 .spans = PyList_New(0), .responses = PySet_New(NULL)};
    PyObject *made = NULL;
    int done = sums.spans == NULL || sums.responses == NULL ? -1 : ORDINARY;
    for (Py_ssize_t i = 0; done > 0 && i < PyList_GET_SIZE(args[0]); i++) done = add(&sums, PyList_GET_ITEM(args[0], i));
    if (done == NOT_OURS || (done > 0 && sums.root == NULL)) made = Py_NewRef(Py_None);
    else if (done > 0)
        made = Py_BuildValue("OOnOONONNNN", sums.root, sums.spans, sums.size, sums.first_ns, sums.last_ns,
                             tokens_of(&sums), sums.dollars == NULL ? Py_None : sums.dollars, first_of(&sums.name),
                             first_of(&sums.title), first_of(&sums.session), first_of(&sums.user));
    Py_XDECREF(sums.spans);
    Py_XDECREF(sums.responses);
    Py_XDECREF(sums.dollars);
    return made;
}

static PyMethodDef methods[] = {
    {"parents_of", parents_of, METH_O, NULL},
    {"sums", (PyCFunction)(void (*)(void))sums, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_native", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__native(void) {
    EMPTY = PyUnicode_InternFromString("");
    if (EMPTY == NULL) return NULL;
    for (size_t i = 0; i < sizeof LAYOUTS / sizeof *LAYOUTS; i++)
        if (learn(LAYOUTS[i].layout, LAYOUTS[i].module, LAYOUTS[i].name, LAYOUTS[i].fields) < 0) return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddStringConstant(module, "SOURCE", SOURCE_DIGEST) < 0) Py_CLEAR(module);
    return module;
}

/* The loops of `fill` over a span's attributes, twin of `_scalars_in_python`, `_content_in_python` and
 * `_counts_in_python`: the same readers are called with the same values in the same order.
 *
 * Plans are tuples of tuples (see `plan`), which Python takes apart one by one and C does not. What a plan holds is
 * known to have its shape; what comes from outside is asked for its type.
 *
 * Not here: what readers do, and what is rare (`RARE` names the Python functions for that).
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <structmember.h>

#ifndef SOURCE_DIGEST
#define SOURCE_DIGEST ""
#endif

enum { SENTINEL_CHARS = 64 };
enum { IS_SENTINEL, SAY_WHERE, JOIN_FIELD, FULLER, STATE, RARE };
enum { MERGE_ONE, PLACES, GROUPS, MERGING };
enum { ONE, JOIN, SEVERAL }; /* what becomes of the values of a field, see `plan` */

static PyObject *FLAGS, *LOSSY, *TRUNCATED, *TAKEN, *NO_KEYS;
static setattrofunc SETS_PLAINLY; /* of structs that are not frozen */

static inline PyObject *part(PyObject *tuple, Py_ssize_t place) {
    return PyTuple_GET_ITEM(tuple, place);
}

/* Where a field lies in a struct, as it was found when it was set first. Classes and names are kept for good: they are
 * those of the canonical span and of plans. */
typedef struct {
    PyTypeObject *type;
    PyObject *name;
    Py_ssize_t place;
} Place;

enum { PLACES_KNOWN = 1024 };
static Place places[PLACES_KNOWN];

/* Of a field that holds any object and whose setting tells nobody: a struct that is frozen or that the garbage collector
 * follows has to know. 0 where there is none. */
static Py_ssize_t place_of(PyObject *holder, PyObject *name) {
    PyTypeObject *type = Py_TYPE(holder);
    Place *known = &places[(((uintptr_t)type >> 4) ^ ((uintptr_t)name >> 4)) % PLACES_KNOWN];
    if (known->type == type && known->name == name) return known->place;
    if (known->type != NULL) return 0; /* two of one place are rare, and then slower */
    if (type->tp_setattro != SETS_PLAINLY || PyType_IS_GC(type)) return 0;
    PyObject *member = PyObject_GetAttr((PyObject *)type, name);
    Py_ssize_t place = 0;
    if (member == NULL) PyErr_Clear();
    else if (Py_IS_TYPE(member, &PyMemberDescr_Type)) {
        PyMemberDef *found = ((PyMemberDescrObject *)member)->d_member;
        if (found->type == T_OBJECT_EX && !(found->flags & READONLY)) place = found->offset;
    }
    Py_XDECREF(member);
    if (place > 0) *known = (Place){(PyTypeObject *)Py_NewRef(type), Py_NewRef(name), place};
    return place;
}

static int set_field(PyObject *holder, PyObject *name, PyObject *value) {
    Py_ssize_t place = place_of(holder, name);
    if (place == 0) return PyObject_SetAttr(holder, name, value);
    PyObject **field = (PyObject **)((char *)holder + place);
    Py_XSETREF(*field, Py_NewRef(value));
    return 0;
}

/* A borrowed reference; NULL with an exception where there is none, which a plan rules out. */
static PyObject *attribute_of(PyObject *attributes, PyObject *key) {
    PyObject *given = PyDict_GetItemWithError(attributes, key);
    if (given == NULL && !PyErr_Occurred()) PyErr_SetObject(PyExc_KeyError, key);
    return given;
}

/* ------------------------------------------------------------------------------------------------ scalars */

static int say_unread(PyObject *flags, PyObject *key, PyObject *given) {
    if (given == Py_None || (PyUnicode_Check(given) && PyUnicode_GET_LENGTH(given) == 0)) return 0;
    PyObject *flag = PyUnicode_FromFormat("unread:%U", key);
    int added = flag == NULL ? -1 : PyList_Append(flags, flag);
    Py_XDECREF(flag);
    return added;
}

static int is_count(PyObject *given) {
    int overflow = 0;
    return PyLong_CheckExact(given) && (PyLong_AsLongLongAndOverflow(given, &overflow) >= 0 || overflow > 0);
}

static int is_text(PyObject *given) {
    return PyUnicode_CheckExact(given) && PyUnicode_GET_LENGTH(given) > 0;
}

static int is_any_of(PyObject *text, const char *one, const char *other) {
    return PyUnicode_CompareWithASCIIString(text, one) == 0 || PyUnicode_CompareWithASCIIString(text, other) == 0;
}

enum { OTHER, TEXT, NAME, UNQUOTED, INTEGER, COUNT, NUMBER }; /* `plan` says which reader is which */

/* Whether a reader of `values` gives back the very value. */
static int stands(long known, PyObject *given) {
    switch (known) {
    case TEXT: return is_text(given);
    case NAME: return is_text(given) && !is_any_of(given, "unknown", "none");
    case UNQUOTED: return is_text(given) && PyUnicode_READ_CHAR(given, 0) != '"';
    case INTEGER: return PyLong_CheckExact(given);
    case COUNT: return is_count(given);
    case NUMBER: return PyFloat_CheckExact(given) && isfinite(PyFloat_AS_DOUBLE(given));
    default: return 0;
    }
}

enum { ITEM_FIELD, ITEM_KEY, ITEM_KNOWN, ITEM_READ, ITEM_OTHERS };

static PyObject *scalar_of(PyObject *item, PyObject *attributes, PyObject *flags) {
    PyObject *given = attribute_of(attributes, part(item, ITEM_KEY));
    if (given == NULL) return NULL;
    if (stands(PyLong_AsLong(part(item, ITEM_KNOWN)), given)) return Py_NewRef(given);
    PyObject *value = PyObject_CallOneArg(part(item, ITEM_READ), given), *others = part(item, ITEM_OTHERS);
    if (value == Py_None && say_unread(flags, part(item, ITEM_KEY), given) < 0) Py_CLEAR(value);
    for (Py_ssize_t i = 0; value == Py_None && i < PyTuple_GET_SIZE(others); i++) {
        PyObject *other = part(others, i); /* key and reader */
        Py_DECREF(value);
        given = attribute_of(attributes, part(other, 0));
        value = given == NULL ? NULL : PyObject_CallOneArg(part(other, 1), given);
    }
    return value;
}

enum { GROUP_NAME, GROUP_FACTORY, GROUP_ITEMS };

static int fill_group(PyObject *group, PyObject *attributes, PyObject *span, PyObject *flags) {
    PyObject *factory = part(group, GROUP_FACTORY), *items = part(group, GROUP_ITEMS);
    PyObject *target = factory == Py_None ? Py_NewRef(span) : NULL;
    int done = 0;
    for (Py_ssize_t i = 0; done == 0 && i < PyTuple_GET_SIZE(items); i++) {
        PyObject *item = part(items, i), *value = scalar_of(item, attributes, flags);
        if (value == NULL) done = -1;
        else if (value != Py_None) {
            if (target == NULL) {
                target = PyObject_CallNoArgs(factory);
                done = target == NULL ? -1 : set_field(span, part(group, GROUP_NAME), target);
            }
            if (done == 0) done = set_field(target, part(item, ITEM_FIELD), value);
        }
        Py_XDECREF(value);
    }
    Py_XDECREF(target);
    return done;
}

static PyObject *scalars(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 4 || !PyTuple_Check(args[0]) || !PyDict_Check(args[1]) || !PyList_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "scalars takes what _native.pyi says");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args[0]); i++)
        if (fill_group(part(args[0], i), args[1], args[2], args[3]) < 0) return NULL;
    Py_RETURN_NONE;
}

/* ------------------------------------------------------------------------------------------------ tokens */

static int add_count(PyObject *found, PyObject *item, PyObject *attributes, PyObject *flags, PyObject *read) {
    PyObject *field = part(item, 0), *key = part(item, 1), *given = attribute_of(attributes, key);
    if (given == NULL) return -1;
    PyObject *amount = is_count(given) ? Py_NewRef(given) : PyObject_CallOneArg(read, given);
    int added = amount == NULL ? -1
        : amount == Py_None ? say_unread(flags, key, given)
        : PyDict_SetDefault(found, field, amount) == NULL ? -1 : 0;
    Py_XDECREF(amount);
    return added;
}

static PyObject *counts(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 4 || !PyTuple_Check(args[0]) || !PyDict_Check(args[1]) || !PyList_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "counts takes what _native.pyi says");
        return NULL;
    }
    PyObject *found = PyDict_New();
    for (Py_ssize_t i = 0; found != NULL && i < PyTuple_GET_SIZE(args[0]); i++)
        if (add_count(found, part(args[0], i), args[1], args[2], args[3]) < 0) Py_CLEAR(found);
    return found;
}

/* ------------------------------------------------------------------------------------------------ fields */

static int is_empty(PyObject *value) {
    return value == Py_None || (PyUnicode_CheckExact(value) && PyUnicode_GET_LENGTH(value) == 0)
        || (PyList_CheckExact(value) && PyList_GET_SIZE(value) == 0)
        || (PyDict_CheckExact(value) && PyDict_GET_SIZE(value) == 0);
}

/* What holds a field of this place: the span, or its group, which is made where it is missing. A new reference. */
static PyObject *holder_of(PyObject *span, PyObject *head, PyObject *tail, PyObject *groups, int *made) {
    *made = 0;
    if (PyUnicode_GET_LENGTH(tail) == 0) return Py_NewRef(span);
    PyObject *group = PyObject_GetAttr(span, head);
    if (group != Py_None) return group;
    *made = 1;
    PyObject *factory = PyDict_GetItemWithError(groups, head);
    Py_SETREF(group, factory == NULL ? NULL : PyObject_CallNoArgs(factory));
    if (group != NULL && set_field(span, head, group) < 0) Py_CLEAR(group);
    return group;
}

/* As `_merge_one`, which is asked where something is there already, or the field is joined or the provider. */
static int merge_one(PyObject *const *args, PyObject *path, PyObject *value, PyObject *merging) {
    PyObject *span = args[0], *rank = args[2], *ranks = args[3], *notes = args[4], *known = NULL;
    if (is_empty(value)) return 0;
    PyObject *place = PyDict_GetItemWithError(part(merging, PLACES), path);
    if (place != NULL) {
        PyObject *head = part(place, 0), *tail = part(place, 1), *name = PyUnicode_GET_LENGTH(tail) > 0 ? tail : head;
        int made;
        PyObject *holder = holder_of(span, head, tail, part(merging, GROUPS), &made);
        known = holder == NULL ? NULL : PyObject_GetAttr(holder, name);
        int put = known == NULL ? -1 : made || is_empty(known) ? set_field(holder, name, value) : 1;
        Py_XDECREF(holder);
        Py_XDECREF(known);
        if (put <= 0) return put < 0 ? -1 : PyObject_SetItem(ranks, path, rank);
    } else if (PyErr_Occurred()) {
        return -1;
    }
    PyObject *all[] = {span, path, value, rank, ranks, notes};
    PyObject *result = PyObject_Vectorcall(part(merging, MERGE_ONE), all, 6, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* `args` are the span, the fields, the rank, the ranks and the notes. */
static int merge_all(PyObject *const *args, PyObject *merging) {
    PyObject *path, *value;
    Py_ssize_t place = 0;
    int done = 0;
    while (done == 0 && PyDict_Next(args[1], &place, &path, &value)) {
        Py_INCREF(path);
        Py_INCREF(value);
        done = merge_one(args, path, value, merging);
        Py_DECREF(path);
        Py_DECREF(value);
    }
    return done;
}

static int is_merging(PyObject *merging) {
    return PyTuple_Check(merging) && PyTuple_GET_SIZE(merging) == MERGING && PyDict_Check(part(merging, PLACES))
        && PyDict_Check(part(merging, GROUPS));
}

static PyObject *merge(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 6 || !PyDict_Check(args[1]) || !PyDict_Check(args[3]) || !is_merging(args[5])) {
        PyErr_SetString(PyExc_TypeError, "merge takes what _native.pyi says");
        return NULL;
    }
    return merge_all(args, args[5]) < 0 ? NULL : Py_NewRef(Py_None);
}

/* ------------------------------------------------------------------------------------------------ content */

/* What one call is about, and the best value of the field at hand. */
typedef struct {
    PyObject *keys_of, *attributes, *span, *notes, *ranks, *rare, *merging; /* arguments */
    PyObject *flags;
    Py_ssize_t flagged;
    PyObject *best, *taken; /* `best` is NULL where there is none yet */
    long best_rank;
    int cut;
} Run;

enum { SOURCE_READ, SOURCE_RANK, SOURCE_KEY, SOURCE_KEYS, SOURCE_MANY, SOURCE_CONTENT };
enum { FIELD_NAME, FIELD_HEAD, FIELD_TAIL, FIELD_HOW, FIELD_SOURCES };

/* Calls a Python function for what is rare; what it returns is not wanted. */
static int call(Run *run, int which, PyObject *const *args, size_t count) {
    PyObject *result = PyObject_Vectorcall(part(run->rare, which), args, count, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* As `call`, whether it returned a true value; -1 for an exception. */
static int ask(Run *run, int which, PyObject *const *args, size_t count) {
    PyObject *result = PyObject_Vectorcall(part(run->rare, which), args, count, NULL);
    int truth = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return truth;
}

static int note_of(Run *run, PyObject *name) {
    PyObject *value = PyObject_GetAttr(run->notes, name);
    int truth = value == NULL ? -1 : PyObject_IsTrue(value);
    Py_XDECREF(value);
    return truth;
}

/* Whether an attribute is passed over: it is nothing, or stands for what was hidden or cut off. */
static int is_nothing(Run *run, PyObject *given, PyObject *field) {
    if (!PyUnicode_CheckExact(given)) return given == Py_None;
    Py_ssize_t length = PyUnicode_GET_LENGTH(given);
    if (length == 0 || length >= SENTINEL_CHARS) return length == 0;
    PyObject *args[] = {given, run->span, field};
    return ask(run, IS_SENTINEL, args, 3);
}

/* What one key says, None where it says nothing. */
static PyObject *read_one(Run *run, PyObject *source, PyObject *field) {
    PyObject *read = part(source, SOURCE_READ), *value = NULL;
    PyObject *given = Py_XNewRef(attribute_of(run->attributes, part(source, SOURCE_KEY)));
    if (given != NULL && PyBytes_CheckExact(given))
        Py_SETREF(given, PyUnicode_DecodeUTF8(PyBytes_AS_STRING(given), PyBytes_GET_SIZE(given), "replace"));
    int nothing = given == NULL ? -1 : is_nothing(run, given, field);
    PyObject *args[] = {given, run->notes};
    if (nothing == 0) value = PyObject_Vectorcall(read, args, part(source, SOURCE_CONTENT) == Py_True ? 2 : 1, NULL);
    else if (nothing > 0) value = Py_NewRef(Py_None);
    Py_XDECREF(given);
    return value;
}

/* A reader that fails costs its own field only. */
static PyObject *none_with_flag(Run *run) {
    if (!PyErr_ExceptionMatches(PyExc_Exception)) return NULL;
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyObject *name = PyType_Check(type) ? PyObject_GetAttrString(type, "__name__") : NULL;
    PyObject *flag = name == NULL ? NULL : PyUnicode_FromFormat("failed:%S", name);
    int added = flag == NULL ? -1 : PyList_Append(run->flags, flag);
    Py_XDECREF(name);
    Py_XDECREF(flag);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return added < 0 ? NULL : Py_NewRef(Py_None);
}

static int weigh(Run *run, PyObject *source, PyObject *keys, PyObject *value) {
    int lossy = note_of(run, LOSSY), cut = note_of(run, TRUNCATED), better = run->best == NULL;
    long rank = PyLong_AsLong(part(source, SOURCE_RANK));
    if (lossy < 0 || cut < 0 || (rank == -1 && PyErr_Occurred())) return -1;
    int whole = part(source, SOURCE_CONTENT) == Py_True && !lossy;
    if (!better) {
        PyObject *args[] = {
            value, PyBool_FromLong(cut), run->best, PyBool_FromLong(run->cut), PyBool_FromLong(rank == run->best_rank),
        };
        better = ask(run, FULLER, args, 5);
        Py_DECREF(args[1]);
        Py_DECREF(args[3]);
        Py_DECREF(args[4]);
        if (better < 0) return -1;
    }
    if (better) {
        Py_XSETREF(run->best, Py_NewRef(value));
        Py_SETREF(run->taken, Py_NewRef(whole ? keys : NO_KEYS));
        run->best_rank = rank;
        run->cut = cut;
        return 0;
    }
    int same = whole ? PyObject_RichCompareBool(value, run->best, Py_EQ) : 0;
    if (same <= 0) return same;
    PyObject *more = PySequence_Concat(run->taken, keys);
    if (more == NULL) return -1;
    Py_SETREF(run->taken, more);
    return 0;
}

static int use(Run *run, PyObject *source, PyObject *field, PyObject *keys, PyObject *value) {
    PyObject *name = part(field, FIELD_NAME), *rank = part(source, SOURCE_RANK);
    long how = PyLong_AsLong(part(field, FIELD_HOW));
    if (how == ONE) return weigh(run, source, keys, value);
    if (how == JOIN) {
        PyObject *args[] = {run->span, name, value};
        return call(run, JOIN_FIELD, args, 3);
    }
    if (!PyDict_Check(value)) {
        PyErr_SetString(PyExc_AttributeError, "a reader of several fields gave no dictionary of them");
        return -1;
    }
    PyObject *args[] = {run->span, value, rank, run->ranks, run->notes};
    return merge_all(args, run->merging);
}

static int read_source(Run *run, PyObject *source, PyObject *field) {
    PyObject *key = part(source, SOURCE_KEY), *keys = part(source, SOURCE_KEYS), *value;
    if (set_field(run->notes, LOSSY, Py_False) < 0 || set_field(run->notes, TRUNCATED, Py_False) < 0)
        return -1;
    if (PyUnicode_GET_LENGTH(key) > 0) {
        if (PyTuple_GET_SIZE(run->taken) > 0 && PyLong_AsLong(part(source, SOURCE_RANK)) > run->best_rank) {
            int read_already = PySequence_Contains(run->taken, key);
            if (read_already) return read_already < 0 ? -1 : 0;
        }
        value = read_one(run, source, part(field, FIELD_NAME));
    } else {
        keys = part(run->keys_of, PyLong_AsSsize_t(part(source, SOURCE_MANY)));
        PyObject *args[] = {run->attributes, keys, run->notes};
        value = PyObject_Vectorcall(part(source, SOURCE_READ), args, 3, NULL);
    }
    if (value == NULL && (value = none_with_flag(run)) == NULL) return -1;
    int done = 0;
    if (PyList_GET_SIZE(run->flags) > run->flagged) {
        PyObject *start = PyLong_FromSsize_t(run->flagged), *args[] = {run->flags, start, keys};
        done = start == NULL ? -1 : call(run, SAY_WHERE, args, 3);
        run->flagged = PyList_GET_SIZE(run->flags);
        Py_XDECREF(start);
    }
    if (done == 0 && !is_empty(value)) done = use(run, source, field, keys, value);
    Py_DECREF(value);
    return done;
}

static int keep_best(Run *run, PyObject *field) {
    PyObject *name = part(field, FIELD_NAME), *head = part(field, FIELD_HEAD), *tail = part(field, FIELD_TAIL);
    int made;
    PyObject *holder = holder_of(run->span, head, tail, part(run->merging, GROUPS), &made);
    int put = holder == NULL ? -1 : set_field(holder, PyUnicode_GET_LENGTH(tail) > 0 ? tail : head, run->best);
    Py_XDECREF(holder);
    if (put < 0) return -1;
    if (run->cut) {
        PyObject *state[] = {run->span, name, TRUNCATED};
        if (call(run, STATE, state, 3) < 0) return -1;
    }
    if (PyTuple_GET_SIZE(run->taken) == 0) return 0;
    PyObject *taken = PyObject_GetAttr(run->notes, TAKEN);
    int kept = taken == NULL ? -1 : PyObject_SetItem(taken, name, run->taken);
    Py_XDECREF(taken);
    return kept;
}

static int fill_field(Run *run, PyObject *field) {
    PyObject *sources = part(field, FIELD_SOURCES);
    run->best = NULL;
    run->taken = Py_NewRef(NO_KEYS);
    run->best_rank = run->cut = 0;
    int done = 0;
    for (Py_ssize_t i = 0; done == 0 && i < PyTuple_GET_SIZE(sources); i++)
        done = read_source(run, part(sources, i), field);
    if (done == 0 && run->best != NULL) done = keep_best(run, field);
    Py_XDECREF(run->best);
    Py_DECREF(run->taken);
    return done;
}

static PyObject *content(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    Run run = {.flags = NULL};
    if (count == 8 && PyTuple_Check(args[0]) && PyTuple_Check(args[1]) && PyDict_Check(args[2])
        && PyDict_Check(args[5]) && PyTuple_Check(args[6]) && PyTuple_GET_SIZE(args[6]) == RARE && is_merging(args[7])) {
        run = (Run){.keys_of = args[1], .attributes = args[2], .span = args[3], .notes = args[4], .ranks = args[5],
                    .rare = args[6], .merging = args[7], .flags = PyObject_GetAttr(args[4], FLAGS)};
        if (run.flags == NULL) return NULL;
    }
    if (run.flags == NULL || !PyList_CheckExact(run.flags)) {
        Py_XDECREF(run.flags);
        PyErr_SetString(PyExc_TypeError, "content takes what _native.pyi says");
        return NULL;
    }
    run.flagged = PyList_GET_SIZE(run.flags);
    int done = 0;
    for (Py_ssize_t i = 0; done == 0 && i < PyTuple_GET_SIZE(args[0]); i++) done = fill_field(&run, part(args[0], i));
    Py_DECREF(run.flags);
    return done < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"scalars", (PyCFunction)(void (*)(void))scalars, METH_FASTCALL, NULL},
    {"counts", (PyCFunction)(void (*)(void))counts, METH_FASTCALL, NULL},
    {"merge", (PyCFunction)(void (*)(void))merge, METH_FASTCALL, NULL},
    {"content", (PyCFunction)(void (*)(void))content, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_native", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__native(void) {
    FLAGS = PyUnicode_InternFromString("flags");
    LOSSY = PyUnicode_InternFromString("lossy");
    TRUNCATED = PyUnicode_InternFromString("truncated");
    TAKEN = PyUnicode_InternFromString("taken");
    NO_KEYS = PyTuple_New(0);
    if (FLAGS == NULL || LOSSY == NULL || TRUNCATED == NULL || TAKEN == NULL || NO_KEYS == NULL) return NULL;
    PyObject *genai = PyImport_ImportModule("spanweir.schemas.genai");
    PyObject *span = genai == NULL ? NULL : PyObject_GetAttrString(genai, "GenAISpan");
    Py_XDECREF(genai);
    if (span == NULL) return NULL;
    SETS_PLAINLY = ((PyTypeObject *)span)->tp_setattro;
    Py_DECREF(span);
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddStringConstant(module, "SOURCE", SOURCE_DIGEST) < 0) Py_CLEAR(module);
    return module;
}

//! Everything that is `unsafe`: the calls into the C library, behind types that cannot be misused.
//!
//! | type | is | threads |
//! |---|---|---|
//! | [`Library`] | the loaded library, for the rest of the process | shared |
//! | [`Model`] | one compiled model, never changed afterwards | shared |
//! | [`Data`] | one simulation of a model | one at a time, may move |
#![expect(unsafe_code, reason = "calls the MuJoCo C library; each block gives the reason why it is sound")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::Read;
use std::path::Path;
use std::ptr::{NonNull, null};
use std::sync::Arc;

use super::error::MujocoError;
use super::versions::{self, Version};
use super::warnings;

/// An `mjModel`, only ever seen behind a pointer.
#[repr(C)]
struct RawModel([u8; 0]);
/// An `mjData`, only ever seen behind a pointer.
#[repr(C)]
struct RawData([u8; 0]);
/// An `mjSpec`, only ever seen behind a pointer.
#[repr(C)]
struct RawSpec([u8; 0]);

/// Bit of the positions in MuJoCo's state signature (`mjSTATE_QPOS`).
const POSITIONS: c_int = 1 << 1;
/// Bit of the velocities in MuJoCo's state signature (`mjSTATE_QVEL`).
const VELOCITIES: c_int = 1 << 2;
/// Bit of the controls in MuJoCo's state signature (`mjSTATE_CTRL`).
const CONTROLS: c_int = 1 << 6;

/// Room for the message of a model that cannot be parsed.
const MESSAGE_LENGTH: c_int = 1024;

/// A message handler of MuJoCo (`mju_user_warning`, `mju_user_error`).
type Handler = Option<unsafe extern "C" fn(*const c_char)>;

/// The C functions, with the signatures that all tested versions have.
struct Functions {
    parse: unsafe extern "C" fn(*const c_char, *const c_void, *mut c_char, c_int) -> *mut RawSpec,
    compile: unsafe extern "C" fn(*mut RawSpec, *const c_void) -> *mut RawModel,
    spec_error: unsafe extern "C" fn(*mut RawSpec) -> *const c_char,
    delete_spec: unsafe extern "C" fn(*mut RawSpec),
    delete_model: unsafe extern "C" fn(*mut RawModel),
    make_data: unsafe extern "C" fn(*const RawModel) -> *mut RawData,
    delete_data: unsafe extern "C" fn(*mut RawData),
    reset_data: unsafe extern "C" fn(*const RawModel, *mut RawData),
    forward: unsafe extern "C" fn(*const RawModel, *mut RawData),
    step: unsafe extern "C" fn(*const RawModel, *mut RawData),
    state_size: unsafe extern "C" fn(*const RawModel, c_int) -> c_int,
    get_state: unsafe extern "C" fn(*const RawModel, *const RawData, *mut f64, c_int),
    set_state: unsafe extern "C" fn(*const RawModel, *mut RawData, *const f64, c_int),
}

/// The loaded library of a tested version, with MuJoCo's messages redirected to [`warnings`].
pub(super) struct Library {
    functions: Functions,
    version: &'static Version,
    /// Keeps the functions' code in memory.
    _handle: libloading::Library,
}

/// Whether an ELF file (64 bits, little-endian) ends before its table of sections, which stands last: the linker maps such a
/// file, and the process ends by a signal when it reads what is not there.
fn is_cut_off(path: &Path) -> bool {
    let head = || -> std::io::Result<([u8; 64], u64)> {
        let mut head = [0; 64];
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.read_exact(&mut head)?;
        Ok((head, length))
    };
    let Ok((head, length)) = head() else { return false };
    let number = |place: std::ops::Range<usize>| {
        head[place].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let sections = number(40..48).saturating_add(number(58..60) * number(60..62));
    head.starts_with(b"\x7fELF\x02\x01") && length < sections
}

impl Library {
    /// Loads the library at `path`.
    ///
    /// # Errors
    /// When it cannot be loaded, is not MuJoCo, or has a version that is not in [`versions::TESTED`].
    pub(super) fn load(path: &Path) -> Result<Self, MujocoError> {
        let refused = |reason: String| MujocoError::Load { path: path.to_owned(), reason };
        if is_cut_off(path) {
            return Err(refused("the file is cut off; fetch it again".to_owned()));
        }
        // SAFETY: running the initialisers of a library is as sound as the library; the user names it, or it is in
        // one of the places where MuJoCo is installed.
        let handle = unsafe { libloading::Library::new(path) }.map_err(|error| {
            // What the linker says is behind what failed.
            let linker = std::error::Error::source(&error).map(ToString::to_string);
            refused(linker.unwrap_or_else(|| error.to_string()))
        })?;
        /// The symbol of that name; its type is the one that the context asks for.
        macro_rules! symbol {
            ($name:literal) => {
                // SAFETY: every use assigns the symbol to the type that mujoco.h declares for it, the same in all
                // tested versions. The two functions used before the version is checked take no argument.
                *unsafe { handle.get($name) }.map_err(|_| MujocoError::NotMujoco {
                    path: path.to_owned(),
                    symbol: String::from_utf8_lossy($name).into_owned(),
                })?
            };
        }
        let number: unsafe extern "C" fn() -> c_int = symbol!(b"mj_version");
        let name: unsafe extern "C" fn() -> *const c_char = symbol!(b"mj_versionString");
        // SAFETY: both only return constants; the string is static.
        let (number, name) = unsafe { (number(), CStr::from_ptr(name())) };
        let version = versions::tested(number).ok_or_else(|| MujocoError::UntestedVersion {
            path: path.to_owned(),
            version: name.to_string_lossy().into_owned(),
        })?;

        let user_warning: *mut Handler = symbol!(b"mju_user_warning");
        let user_error: *mut Handler = symbol!(b"mju_user_error");
        // SAFETY: both are writable global variables of the library, and nothing else runs in it yet: the one
        // library of the process is loaded under a lock, and no function of it was called that reads them.
        unsafe {
            *user_warning = Some(on_warning);
            *user_error = Some(on_error);
        }
        let functions = Functions {
            parse: symbol!(b"mj_parseXMLString"),
            compile: symbol!(b"mj_compile"),
            spec_error: symbol!(b"mjs_getError"),
            delete_spec: symbol!(b"mj_deleteSpec"),
            delete_model: symbol!(b"mj_deleteModel"),
            make_data: symbol!(b"mj_makeData"),
            delete_data: symbol!(b"mj_deleteData"),
            reset_data: symbol!(b"mj_resetData"),
            forward: symbol!(b"mj_forward"),
            step: symbol!(b"mj_step"),
            state_size: symbol!(b"mj_stateSize"),
            get_state: symbol!(b"mj_getState"),
            set_state: symbol!(b"mj_setState"),
        };
        Ok(Self { functions, version, _handle: handle })
    }

    /// The version of the library.
    pub(super) fn version(&self) -> &'static Version {
        self.version
    }

    /// Compiles the MJCF text `xml` of the model called `name`.
    ///
    /// # Errors
    /// MuJoCo's own message when the text is not a valid model.
    pub(super) fn compile(&'static self, name: &'static str, xml: &str) -> Result<Model, MujocoError> {
        let invalid = |reason: String| MujocoError::Model { name, reason };
        let text = CString::new(xml).map_err(|source| invalid(source.to_string()))?;
        let mut message = [0_u8; MESSAGE_LENGTH as usize];
        let functions = &self.functions;
        // SAFETY: the text ends in NUL, no virtual file system is allowed, and the message has the size stated.
        let spec = unsafe {
            (functions.parse)(text.as_ptr(), null(), message.as_mut_ptr().cast::<c_char>(), MESSAGE_LENGTH)
        };
        if spec.is_null() {
            let reason = CStr::from_bytes_until_nul(&message).unwrap_or_default();
            return Err(invalid(reason.to_string_lossy().into_owned()));
        }
        // SAFETY: the specification is valid until it is deleted, here and once; its error text is copied before.
        let (model, reason) = unsafe {
            let model = (functions.compile)(spec, null());
            let reason = text_at((functions.spec_error)(spec));
            (functions.delete_spec)(spec);
            (model, reason)
        };
        let pointer = NonNull::new(model).ok_or_else(|| invalid(reason))?;
        let size = |signature| {
            // SAFETY: the model is valid and only read.
            let size = unsafe { (functions.state_size)(pointer.as_ptr(), signature) };
            usize::try_from(size).unwrap_or_default()
        };
        let sizes =
            Sizes { positions: size(POSITIONS), velocities: size(VELOCITIES), controls: size(CONTROLS) };
        Ok(Model { library: self, pointer, sizes })
    }
}

/// Numbers of components of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Generalised positions (`nq`).
    pub(super) positions: usize,
    /// Generalised velocities (`nv`).
    pub(super) velocities: usize,
    /// Actuators (`nu`).
    pub(super) controls: usize,
}

/// A compiled model.
pub(super) struct Model {
    library: &'static Library,
    pointer: NonNull<RawModel>,
    sizes: Sizes,
}

// SAFETY: after compilation nothing here writes to the model: every function takes it as `const mjModel*`, which
// MuJoCo documents as safe to share among threads, and it is deleted once, when its last owner is gone.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

impl Model {
    /// The model's numbers of components.
    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `compile`, and every `Data` holds its model, so nothing uses it any more.
        unsafe { (self.library.functions.delete_model)(self.pointer.as_ptr()) }
    }
}

/// One simulation of a [`Model`].
pub(super) struct Data {
    model: Arc<Model>,
    pointer: NonNull<RawData>,
}

// SAFETY: MuJoCo keeps no thread-local reference to an mjData, and this one has a single owner, whose `&mut` is needed
// for every function that writes to it. It is not `Sync`: nothing here needs it to be.
unsafe impl Send for Data {}

impl Data {
    /// A simulation at the model's reference state.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub(super) fn new(model: Arc<Model>) -> Result<Self, MujocoError> {
        // SAFETY: the model is valid, and lives as long as the data, which holds it.
        let pointer = unsafe { (model.library.functions.make_data)(model.pointer.as_ptr()) };
        let pointer = NonNull::new(pointer).ok_or(MujocoError::Memory)?;
        Ok(Self { model, pointer })
    }

    /// Returns to the model's reference state, with nothing left of the simulation before.
    pub(super) fn reset(&mut self) {
        // SAFETY: the data was made from this model; both are valid, and the data is borrowed mutably.
        unsafe { (self.functions().reset_data)(self.model.pointer.as_ptr(), self.pointer.as_ptr()) }
    }

    /// Computes everything that depends on the state, without a step in time.
    ///
    /// # Errors
    /// MuJoCo's warning, if it raised one.
    pub(super) fn forward(&mut self) -> Result<(), String> {
        warnings::take();
        // SAFETY: the data was made from this model; both are valid, and the data is borrowed mutably.
        unsafe { (self.functions().forward)(self.model.pointer.as_ptr(), self.pointer.as_ptr()) };
        warnings::take().map_or(Ok(()), Err)
    }

    /// Makes `count` steps of the model's time step with the same controls.
    ///
    /// # Errors
    /// MuJoCo's warning, if it raised one; the state is not to be trusted then, for MuJoCo resets an unstable
    /// simulation and goes on.
    pub(super) fn step(&mut self, count: usize) -> Result<(), String> {
        warnings::take();
        let step = self.functions().step;
        for _ in 0..count {
            // SAFETY: the data was made from this model; both are valid, and the data is borrowed mutably.
            unsafe { step(self.model.pointer.as_ptr(), self.pointer.as_ptr()) }
        }
        warnings::take().map_or(Ok(()), Err)
    }

    /// Writes the positions, then the velocities, into `state`.
    ///
    /// # Panics
    /// When `state` has another length than the two together.
    pub(super) fn read_state(&self, state: &mut [f64]) {
        assert_eq!(
            state.len(),
            self.model.sizes.positions + self.model.sizes.velocities,
            "length of the state"
        );
        // SAFETY: MuJoCo writes as many numbers as mj_stateSize of the same signature, which is the length just
        // checked, in the order of the bits.
        unsafe {
            (self.functions().get_state)(
                self.model.pointer.as_ptr(),
                self.pointer.as_ptr(),
                state.as_mut_ptr(),
                POSITIONS | VELOCITIES,
            );
        }
    }

    /// Sets the positions and the velocities.
    ///
    /// # Panics
    /// When `state` has another length than the two together.
    pub(super) fn write_state(&mut self, state: &[f64]) {
        let sizes = self.model.sizes;
        self.write(state, sizes.positions + sizes.velocities, POSITIONS | VELOCITIES);
    }

    /// Sets the controls, which MuJoCo clips to their ranges.
    ///
    /// # Panics
    /// When there are not as many as the model has actuators.
    pub(super) fn write_controls(&mut self, controls: &[f64]) {
        self.write(controls, self.model.sizes.controls, CONTROLS);
    }

    /// Sets the `expected` components that `signature` selects.
    fn write(&mut self, values: &[f64], expected: usize, signature: c_int) {
        assert_eq!(values.len(), expected, "number of values");
        // SAFETY: MuJoCo reads as many numbers as mj_stateSize of the same signature, the length just checked.
        unsafe {
            (self.functions().set_state)(
                self.model.pointer.as_ptr(),
                self.pointer.as_ptr(),
                values.as_ptr(),
                signature,
            );
        }
    }

    fn functions(&self) -> &'static Functions {
        &self.model.library.functions
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `new` and is deleted once, before its model.
        unsafe { (self.functions().delete_data)(self.pointer.as_ptr()) }
    }
}

/// The text at `pointer`, empty for a null pointer.
///
/// # Safety
/// `pointer` is null or the start of a text that ends in NUL and that nothing changes during the call.
unsafe fn text_at(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// Receives MuJoCo's warnings.
///
/// # Safety
/// As [`text_at`].
unsafe extern "C" fn on_warning(message: *const c_char) {
    // SAFETY: MuJoCo passes a text that ends in NUL and lives during the call.
    warnings::record(unsafe { text_at(message) });
}

/// Receives MuJoCo's fatal errors (memory exhausted, a broken model), from which it cannot return.
///
/// # Safety
/// As [`text_at`].
unsafe extern "C" fn on_error(message: *const c_char) {
    // SAFETY: MuJoCo passes a text that ends in NUL and lives during the call.
    let message = unsafe { text_at(message) };
    warnings::abort(&message)
}

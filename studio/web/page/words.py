"""Every sentence of the page and of its endpoints: whole, in one place, so that it can be translated.

Braces are filled in with ``str.format``. A pair is for one thing and for several; ``counted`` chooses. Who reads one of
these names from outside gets it in the language that is spoken then (``studio.core.language``); the sentences for
programs (``API_...``) are English only.
"""

import sys

from studio.core import language

# -- the whole page --

TITLE = "Likeness Studio"
TAGLINE = "A few photos in, a portrait series out."
FOOTER = "Photos and pictures stay on the machine that runs this studio."
FOOTER_LINK = "Use the studio from a program"
LOG_IN = "Log in with Hugging Face"
LOG_OUT = "Log out ({name})"
SIGNED_IN = "Signed in as {name}"
SIGN_OUT = "Sign out"
LOG_IN_NOTICE = "Log in to begin"
LOG_IN_WHY = (
    "Log in with your Hugging Face account so that your photos, runs and pictures are yours alone.",
    "Without logging in you can look around, but nothing is stored.",
)
INTRO_STRIP = "Three photos of a drawn woman, a picture before training, and two pictures after it"
INTRO_CAPTIONS = ("Photos", "Before training", "After training")
INTRO_STEPS = (
    ("Photos.", "5 to 20 of one person, pet or thing; each is checked."),
    ("Train.", "With the sample photos {time}."),
    ("Pictures.", "From a pack or your own prompts, the best likenesses first."),
)
INTRO_CPU = (
    "This machine has no GPU: here the studio draws small cartoons, for trying everything with the sample. "
    "Real photos need a GPU: in this machine, in another of yours, or in a Space."
)
INTRO_GPU = "This machine has a GPU: real photos can be trained here. The sample is a cartoon, drawn by a small base."
TAB_LIBRARY = "Library"
TAB_PHOTOS = "Photos"
TAB_TRAIN = "Train"
TAB_GENERATE = "Generate"
TAB_FINISH = "Finish"
TAB_PUBLISH = "Publish"
TAB_ADMIN, TAB_MACHINE = "Admin", "This machine"
"""The operator's tab: where people log in, and where there is one owner."""

# -- jobs --

STATES = {
    "pending": "Waiting for its turn",
    "pendingGpu": "Waiting for a free device",
    "pendingImages": "Waiting for another job",
    "pendingModel": "Loading the base model",
    "checking": "Checking the photos",
    "training": "Training",
    "generating": "Making pictures",
    "exporting": "Exporting",
    "finishing": "Finishing pictures",
    "publishing": "Publishing",
}
"""What a job does, by state."""
WAITING_FOR = "Waiting for {source}"
"""Title of a job whose source has not finished; ``source`` is, for example, the training of Ada."""
PROGRESS = {
    "train": "Step {step:,} of {total:,}",
    "generate": "Picture {step:,} of {total:,}",
    "export": "File {step:,} of {total:,}",
    "finish": "Picture {step:,} of {total:,}",
    "publish": "File {step:,} of {total:,}",
}
"""How far a job is, by kind; the check goes through the photos three times and counts none of them alone."""
DOING = {
    "check.reading": "Reading the photos",
    "check.looking": "Looking at faces and likeness",
    "check.preparing": "Cropping the photos",
    "train.validating": "Reading the photos",
    "train.loading": "Loading the base model",
    "train.caching": "Preparing photos and prompts",
    "train.class_images": "Making pictures of the class",
    "train.sampling": "Making sample pictures",
    "train.training": "Training",
    "train.exporting": "Choosing the best checkpoint",
    "train.certifying": "Reading the adapter back",
    "generate.loading": "Loading the model",
    "generate.generating": "Making pictures",
    "generate.ranking": "Ranking and packing the pictures",
    "finish.finishing": "Finishing pictures",
    "finish.packing": "Packing the pictures",
}
"""What a job at work does, by kind and stage; other stages say it in their own words."""
LEFT = "about {time} left"
CANCELLED = {
    "check": "Cancelled. Nothing was prepared; the photos are still here, and the check can be continued.",
    "train": "Cancelled. What was trained so far is kept, and the run can be continued.",
    "generate": "Cancelled. The run can be continued.",
    "export": "Cancelled. Nothing was exported.",
    "finish": "Cancelled. The finishing can be continued.",
    "publish": "Cancelled. Nothing was published.",
}
"""What becomes of the work of a cancelled job, by kind."""
CANCELLED_EARLY = "Cancelled before it began."
CANCELLED_AT = "Cancelled at step {step:,} of {total:,}. What was trained so far is kept, and the run can be continued."
CANCELLED_PICTURES = (
    "Cancelled. {count} finished picture of {total} is kept and shown below.",
    "Cancelled. {count} finished pictures of {total} are kept and shown below.",
)
NOT_STORED = "The studio cannot store the progress of this job"
NOT_FINISHED = "This job could not be finished"
NOTE_ENDED = "It is finished."
NOTE_STOPPED = "It ended early; the page says why."
"""What a notification of the browser says, below the job's title."""
WORTH_KNOWING = "Worth knowing"
PROBLEMS = ("One thing to change", "{count} things to change")
CANCEL = "Cancel"
EARLIER = "Earlier"
JOB_PHOTOS = ("{count} photo", "{count} photos")
JOB_STATES = {"completed": "finished", "stalled": "stopped early", "cancelled": "cancelled"}
JOB_OPEN = "in progress"
MOMENT = "{day} {month} {time}"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
NOTHING_CHOSEN = {
    "check": "No photos are chosen; check some in the Photos tab first.",
    "train": "No run is chosen; train one in the Train tab first.",
    "generate": "No pictures are chosen; make some in the Generate tab first.",
    "export": "No export is chosen.",
    "finish": "No finished pictures are chosen.",
    "publish": "Nothing that was published is chosen.",
}
"""Why there is no job to work on, by the kind of job that is missing."""
WRONG_KIND = "job {job!r} is a {found} job, not a {wanted} job."
NO_PHOTOS, NO_PHOTOS_CURE = "none were given", "add 5 to 20 photos of one subject"
NOT_CHECKED, NOT_CHECKED_CURE = "the photo check is not finished", "wait until it is"
NO_CHAIN = "no chain is chosen; choose one first."

# -- what several forms have --

AUTOMATIC = "automatic"
RANGE, ABOVE, BELOW = "{low} to {high}", "above {limit:,}", "below {limit:,}"
RANGE_MULTIPLE = "{range}, a multiple of {step}"
ADVANCED = "Advanced"
REPOSITORY = "Repository"
WHO_CAN_SEE = "Who can see it"
PRIVATE, PUBLIC = "Only me", "Everyone"
TOKEN = "Token"
TOKEN_OF_LOGIN = "leave empty to use your login"
TOKEN_OF_MACHINE = "leave empty to use this machine's login"
MORE_FILES = "Add more files"
DOWNLOAD_ALL = "Download all (zip)"
CONTACT_SHEET = "Contact sheet"

# -- Library --

LIBRARY_WELCOME = "Nobody is here yet"
LIBRARY_POINTS = (
    "everyone you check photos of gets a place here: photos, runs and pictures together",
    "begin in the Photos tab",
)
LIBRARY_SUBJECTS = "Subjects"
LIBRARY_AGAIN = "Train again"
LIBRARY_FAVOURITES = "Favourites"
LIBRARY_LIKENESS = "Best run: {likeness}"
LIBRARY_PICTURE = "Picture of {subject}: {file}"
LIBRARY_GROUPS = {
    "check": "Photos",
    "train": "Runs",
    "generate": "Pictures",
    "finish": "Finished pictures",
    "export": "Exports",
    "publish": "Published",
}
"""Headings of what there is of a subject, by kind of job."""
LIBRARY_COUNTS = {
    "check": ("{count} photo set", "{count} photo sets"),
    "train": ("{count} run", "{count} runs"),
    "generate": ("{count} series of pictures", "{count} series of pictures"),
    "finish": ("{count} finished series", "{count} finished series"),
    "export": ("{count} export", "{count} exports"),
    "publish": ("published", "{count} times published"),
}
RENAME_OPEN = "Rename a subject or a photo set"
RENAME_WHAT = "What to rename"
RENAME_SUBJECT = "Subject: {subject}"
RENAME_SET = "Photo set: {job}"
RENAME_NAME = "New name"
RENAME_SURE = "Rename"
RENAME_NOTHING = "choose first what to rename."
RENAME_WHAT_MISSING, RENAME_WHAT_CURE = (
    "is not told what, or told it twice",
    "give a subject or a check job, one of both",
)
RENAMED = "{before} is now called {name}"
RENAMED_STAYS = (
    "Its photo sets, runs and pictures are shown under the new name, and so is all that is made from them. "
    "The trigger word, the names of files made so far and what is published stay as they are."
)
RENAMED_SET = "The photo set is now called {name}"
RENAMED_SET_PLAIN = "The photo set has no name of its own any more"

# -- Photos --

PHOTOS_WELCOME = "What makes a good set"
PHOTOS_LEAD = "Each photo is checked, cropped and stripped of hidden data before training."
PHOTOS_POINTS = (
    "5 to 20 photos of one person, pet or thing, alone in the picture",
    "sharp, in good light, the face clearly visible",
    "different backgrounds, clothes, angles and expressions",
    "JPEG, PNG, WebP, AVIF or HEIC straight from a phone or camera",
)
PHOTOS_DROP = "Drop photos here"
PHOTOS_CHOOSE = "choose them"
OR = "or"
PHOTOS_NAME = "Name"
PHOTOS_CLASS_NOUN = "What is it?"
PHOTOS_CLASS_NOUN_INFO = "Choose, type, or leave empty to have it guessed."
PHOTOS_CONSENT = "The person in the photos agrees"
PHOTOS_CONSENT_INFO = "Or it is you, or your child. Not needed for pets and things. Kept with the set."
PHOTOS_START = "Check photos"
PHOTOS_ADD = "Add to this set"
PHOTOS_NEW = "Not checked yet"
PHOTOS_NO_THUMBNAIL = "cannot be shown"
SET_CHANGE = "Change this set"
SET_RECHECK = ("Check again", "Check again with {count} change", "Check again with {count} changes")
SET_NAME_INFO = "Rename the set."
PHOTO_ACTIONS = {
    "take_out": "Take out",
    "put_back": "Put back",
    "use": "Use anyway",
    "undo": "Undo",
    "open": "Adjust",
}
"""Buttons on a photo's card, by what they do."""
PHOTO_WILL = {"take_out": "Will be taken out", "put_back": "Will be put back", "use": "Will be used anyway"}
PHOTO_CHANGED = "Crop or caption changed"
PHOTO_RISK = "Risk: {risk}."
PHOTO_CAPTION = "Caption"
PHOTO_CAPTION_INFO = "What is seen beside the subject, for example: at the sea, smiling."
PHOTO_SHAPE, PHOTO_SHAPES = "Shape", ("square", "as the photo")
PHOTO_SIZE, PHOTO_ACROSS, PHOTO_DOWN = "Size", "Left to right", "Top to bottom"
PHOTO_KEEP, PHOTO_AUTOMATIC, PHOTO_CLOSE = "Keep crop and caption", "Crop automatically", "Close"
PHOTOS_WHOLE_WAY = "Train and make pictures"
PHOTOS_SAMPLE = "Try it with sample photos"
PHOTOS_SETTINGS = "Check settings"
PHOTOS_EARLIER = "Earlier sets"
PHOTOS_RETRY = "Continue this check"
PHOTOS_FORWARD = "Continue to training"
UNNAMED_SUBJECT = "Subject"
VERDICTS = {"good": "Good", "usable": "Usable", "rejected": "Left out"}
NO_PREVIEW = "no preview"
LIKE_THE_OTHERS = "Like the others: {likeness}"
SET_UNUSABLE = "None of these photos can be used"
SET_UNUSABLE_NEXT = "The cards below say why. Say what they show, use some of them anyway, or add others."
SET_PARTLY_READY = "{ready} of {total} photos of {subject} are ready"
SET_READY = "All {ready} photos are ready"
SET_WEAK_NEXT = "You can train with them, but look at the points below first."
SET_READY_NEXT = "This is a good set. Continue to training."
SET_BETTER = "What would make it better"
SET_LIKENESS = "The photos among themselves: {likeness} (1 = the same subject)."

# -- Train --

TRAIN_WELCOME = "How training works"
TRAIN_POINTS = (
    "a small adapter (a LoRA) learns the subject; the base model does not change",
    "at every checkpoint the studio draws samples and measures how much they look like the subject",
    "the best checkpoint is kept, not the last one",
    "you can close this page: training continues, and the page finds it again",
)
TRAIN_PHOTOS = "Photos"
TRAIN_PHOTOS_INFO = "A photo set that you have checked."
TRAIN_BASE = "Base model"
TRAIN_PRESET = "Preset"
TRAIN_PUBLISH = "Publish when done"
TRAIN_REPOSITORY_INFO = "On the Hugging Face Hub. Leave empty to publish nothing."
TRAIN_REPOSITORY_EXAMPLE = "owner/name"
TRAIN_TOKEN_INFO = (
    "Write access is checked before training starts. The token is used for this job only and is not stored."
)
TRAIN_START = "Train"
TRAIN_EARLIER = "Earlier runs"
TRAIN_FORWARD = "Make pictures"
TRAIN_RETRY = "Continue this run"
TRAIN_CARDS_INFO = "Time and memory of a run with these photos, as measured on this machine or as counted."
CARD_TIME = "time: {time}"
CARD_NO_TIME = "not known yet"
CARD_MEASURED, CARD_ROUGH = "memory: {memory}", "memory: about {memory}"
CARD_NO_MEMORY = "memory: not known yet"
CARD_NEEDS = "needs a GPU with {memory}"
CARD_HERE, CARD_ELSEWHERE = "free here", "price elsewhere not known"
BASE_NONE = "Choose a base model."
BASE_NOT_HERE = "This machine cannot use it well: it {lacks}"
BASE_CPU = "It works {way}."
REAL_PHOTOS = "These are real photos, and this machine has no GPU. Train them:"
REAL_PHOTOS_POCKET = "Or here on Pocket, to try the studio: the result is a cartoon, not the subject."
BASE_HINT_GPU = "{description} Needs a GPU with {memory}. Licence: {licence}."
BASE_HINT_CPU = "{description} Runs on any processor. Licence: {licence}."
NO_PRESET = "There is no preset for this base yet."
PLAN = "Plan: {plan}"
PLAN_TOO_LARGE = "This run needs more memory than is available"
LOSS = "Loss"
LOSS_DESCRIPTION = "Loss, smoothed: {loss:.4g} at step {step}"
LIKENESS = "Likeness"
LIKENESS_BEST = "best {likeness}"
LIKENESS_DESCRIPTION = "Likeness by step: {values}"
FIRST_STEP = "step {step:,}"
SAMPLES_BEFORE = "Before training"
SAMPLES_STEP = "Step {step:,}"
SAMPLES_KEPT = "kept"
FILM = "Checkpoints"
FILM_ABOUT = "Press two to see them side by side: the same prompts, drawn from the same seeds."
LIKENESS_OF = "likeness {likeness}"
TRAINED = "Training is finished"
TRAINED_UNMEASURED = "Likeness could not be measured for this subject. Judge by the pictures."
TRAINED_BEFORE = "Before training: {likeness}."
TRAINED_BEST = "Best checkpoint: step {best:,} of {steps:,}, after {time}."
TRAINED_DOWNLOAD = "Download the LoRA"
LIKENESS_ENDS = ("0 · somebody else", "a photo · 1")
"""What the two ends of the scale of likeness mean."""
LIKENESS_SCALE = "Likeness {likeness} on a scale from 0, somebody else, to 1, a photo of the subject"
JUDGEMENTS = {
    "very alike": "The pictures clearly show the subject.",
    "alike": "The pictures clearly show the subject.",
    "somewhat alike": "The pictures resemble the subject. More or better photos, or more steps, would help.",
    "not alike": "The pictures hardly show the subject yet. Try more steps or better photos.",
}
"""What to make of a likeness, by the word that its engine's measured borders give it; no word, no judgement."""

# -- Generate --

GENERATE_WELCOME = "Make pictures of your subject"
GENERATE_POINTS = (
    "a pack is a set of prepared shots: backgrounds, clothes, styles",
    "or write your own prompts, one per line; {subject} stands for your subject",
    "every picture is compared with the photos; the best likenesses come first",
)
GENERATE_RUN = "Subject"
GENERATE_RUN_INFO = "A finished training run."
GENERATE_MODE = "What to generate"
GENERATE_PACK_MODE, GENERATE_PROMPTS_MODE = "A prompt pack", "My own prompts"
GENERATE_PACK = "Pack"
GENERATE_PROMPTS = "Prompts"
GENERATE_PROMPTS_INFO = "One per line; {subject} stands for your subject."
GENERATE_PROMPTS_EXAMPLE = "a photo of {subject} at the beach\na pencil sketch of {subject}"
GENERATE_COUNT = "Pictures per prompt"
GENERATE_KEEP = "Keep the best"
GENERATE_KEEP_INFO = "Per prompt, by likeness, without near-duplicates; 0 keeps all."
GENERATE_STRENGTH = "Strength"
GENERATE_STRENGTH_INFO = (
    "Lower gives more freedom, higher more likeness. Compare draws one prompt from one seed at {strengths}."
)
GENERATE_COMPARE = "Compare strengths"
STRENGTH_OF = "strength {strength:g}"
GENERATE_SEED = "Seed"
GENERATE_SEED_INFO = "The same seed gives the same pictures."
GENERATE_START = "Generate"
GENERATE_RETRY = "Continue these pictures"
GENERATE_EARLIER = "Earlier pictures"
SOME_SUBJECT = "the subject"
FINISH_THESE, PUBLISH_THESE, PUBLISH_THIS_RUN = "Finish these", "Publish these", "Publish this run"
VIEWER = {
    "title": "Picture",
    "previous": "Previous",
    "next": "Next",
    "heart": "Heart",
    "download": "Download",
    "close": "Close",
}
HEARTS = {
    "only": "Hearts only",
    "heart": "Heart",
    "about": "What has a heart comes first, and goes into the zip, to Finish and to Publish.",
}
DOWNLOAD_HEARTS = ("Download the heart (zip)", "Download the {count} hearts (zip)")
INSERT_SUBJECT = "Insert {{subject}}: {subject}"
NO_PACK = "No pack fits this run. Write your own prompts."
PACK_SHOTS = ("{count} shot", "{count} shots")
PICTURES = ("{count} picture", "{count} pictures")
PICTURES_LIKENESS = "Average {likeness}; the best come first."
PICTURES_STRENGTHS = (
    "Each row is one prompt from one seed, the weakest strength first; below each picture its likeness."
)
NOT_MEASURED = "likeness not measured"
PICTURES_UNMEASURED = "The subject is not found in any picture, so likeness is not measured and they are not ranked."
PICTURES_READY = "Ready to download."
PICTURES_LEFT_OUT = ("{count} other was left out.", "{count} others were left out.")
PICTURES_LEFT_OUT_OF = (
    "{count} other was left out; the average of all was {likeness}.",
    "{count} others were left out; the average of all was {likeness}.",
)
PICTURES_CACHED = ("{count} came from the cache.", "{count} came from the cache.")

# -- Finish --

FINISH_WELCOME = "Prepare pictures for use"
FINISH_POINTS = (
    "cut the subject out and put white, a colour, a gradient or a blur behind it",
    "enlarge with Real-ESRGAN, up to 8192 px",
    "exact sizes for passports, portraits, banners and avatars, within a file-size limit",
    "one picture, many, or a zip; if one fails, the others go on",
)
FINISH_WHAT = "What to finish"
FINISH_MADE, FINISH_OWN = "Generated pictures", "My own pictures"
FINISH_PICTURES = "Pictures"
FINISH_PICTURES_INFO = "A set that you have generated."
FINISH_HEARTS = "Only the pictures with a heart"
FINISH_DROP = "Drop pictures or a zip here"
FINISH_NO_PICTURES, FINISH_NO_PICTURES_CURE = (
    "there is nothing to finish yet",
    "drop pictures, or a zip of them, into the field for your own pictures",
)
FINISH_CHAIN = "Chain"
FINISH_AS_IT_IS = "As the chain has it"
FINISH_SIZE = "Size"
FINISH_SIZES = {
    "passport": "Passport photo, 35 x 45 mm",
    "passport_us": "Passport photo, US",
    "4x5": "Portrait post, 4:5",
    "16:9": "Widescreen, 16:9",
    "square": "Square post",
    "avatar": "Avatar",
    "banner": "LinkedIn banner",
}
FINISH_BACKGROUND, FINISH_COLOUR = "Background", "Colour of the background"
FINISH_FILLS = {
    "white": "White",
    "colour": "A colour of your choice",
    "gradient": "Soft grey, as in a studio",
    "blur": "The own background, out of focus",
    "transparent": "Transparent",
}
"""Fills of the background step that need no file, by name."""
FINISH_CHANGES = "Changes"
FINISH_CHANGES_INFO = "Settings of the steps, one per line. Leave empty to use the chain as it is."
FINISH_CHANGES_EXAMPLE = "fit.max_bytes=2000000\nfit.quality=95\nupscale.long_side_px=2048"
FINISH_START = "Finish"
FINISH_RETRY = "Continue finishing"
FINISH_SLIDER = "Before and after"
CHAIN_STEPS = {
    "cutout": "cut out",
    "background": "background",
    "upscale": "enlarge",
    "face": "restore faces",
    "fit": "fit size and bytes",
}
"""Steps of a chain, by kind."""
FINISHED = ("{count} picture finished", "{count} pictures finished")
FINISHED_SIZE = "{size} in total."
FINISHED_SHEET = "The contact sheet is ready."
FINISHED_CAPTION = "{source} · {width} x {height} · {size}"
FINISHED_QUALITY = "quality {quality}"
FINISH_FAILED = ("{count} picture could not be finished", "{count} pictures could not be finished")

# -- Publish --

PUBLISH_WELCOME = "On the Hugging Face Hub"
PUBLISH_POINTS = (
    "one commit with the adapter for diffusers and ComfyUI, read back and certified",
    "a model card with your pictures, trigger words, measured likeness and the base's licence",
    "private unless you choose otherwise; your photos are never published",
    "Preview shows what would be published and needs no token",
)
PUBLISH_RUN = "Run"
PUBLISH_RUN_INFO = "A finished training run."
PUBLISH_REPOSITORY_INFO = "As owner/name."
PUBLISH_REPOSITORY_EXAMPLE = "you/ada"
PUBLISH_FORM = "What to publish"
PUBLISH_FORMS = {
    "adapter": "Adapter, for diffusers and ComfyUI",
    "merged": "Whole model, a diffusers folder",
    "single_file": "Whole model, one file",
}
"""What can be published, by PublishConfig.form."""
PUBLISH_PICTURES = "Pictures for the gallery"
PUBLISH_SAMPLES = "The run's own samples"
PUBLISH_FINISHED = "Finished: {title}"
PUBLISH_CHOSEN = "Chosen pictures"
PUBLISH_CHOSEN_INFO = "Leave empty to use the best ones."
PUBLISH_TITLE = "Title"
PUBLISH_TITLE_EXAMPLE = "the subject's name"
PUBLISH_ABOUT = "About"
PUBLISH_ABOUT_INFO = "A few sentences for the model card."
PUBLISH_LICENCE = "Licence"
PUBLISH_LICENCE_INFO = "Only for a base outside the catalog."
PUBLISH_LICENCE_EXAMPLE = "the base's licence"
PUBLISH_UPDATE = "Update an existing repository"
PUBLISH_TOKEN_INFO = "Needs write access. The token is used for this job only and is not stored."
PUBLISH_RETRY = "Continue publishing"
PUBLISH_PREVIEW = "Preview"
PUBLISH_START = "Publish"
PUBLISHED = "Published: {repo}"
PUBLISHED_FACTS = ("{count} file, {size}, licence {licence}.", "{count} files, {size}, licence {licence}.")
PUBLISHED_PUBLIC = "Commit {commit}. Everyone can see it."
PUBLISHED_PRIVATE = "Commit {commit}. Only you and those you allow can see it."
PUBLISHED_OPEN = "Open on the Hub"
PUBLISHED_PREVIEW = "What would be published"
PUBLISHED_NOTHING = "Nothing was sent."
THEN_PUBLISHED = "Published: {repo}, commit {commit}."
THEN_PREVIEWED = "The preview of {repo} is ready."
THEN_RUN_STOPPED = "Not published as {repo}: the run must be finished first."
THEN_STALLED = "Not published as {repo}: {cause}"
THEN_WAITING = "It will be published as {repo} when it is done."
THEN_PUBLISHING = "Publishing {repo}."

# -- Delete --

FORGET_OPEN = "Delete photos, runs or pictures"
FORGET_WHAT = "What to delete"
FORGET_INFO = "It goes for good, with everything that was made from it, also out of the backup."
FORGET_KEPT = (
    "By itself it goes once you have not used it for {count} day.",
    "By itself it goes once you have not used it for {count} days.",
)
FORGET_SUBJECT = "Everything of {subject}"
FORGET_EVERYTHING = "Everything of mine"
FORGET_JOB = {
    "check": "Photos: {job}",
    "train": "Run: {job}",
    "generate": "Pictures: {job}",
    "export": "Export: {job}",
    "finish": "Finished: {job}",
    "publish": "Published: {job}",
}
"""One job among what can be deleted, by kind."""
FORGET_NOTHING = "choose first what to delete."
FORGET_SURE = "Delete for good"
FORGET_KEEP = "Close"

# -- endpoints --

PUBLISH_TO_EMPTY = "is empty, but other publishing settings are given"
PUBLISH_TO_EMPTY_CURE = "give it as owner/name, or leave the other settings out"
NOT_A_FILE, NOT_A_FILE_CURE = "one is not an uploaded file", "send files"
UNKNOWN_KIND, UNKNOWN_KIND_CURE = "{kind!r} is not a kind of job", "use one of: {kinds}"


def counted(forms: tuple[str, str], count: int, **more: object) -> str:
    """Return the form for one or for several, filled in."""
    return forms[count != 1].format(count=count, **more)


sys.modules[__name__].__class__ = language.Spoken
